"""Examples: records with a label, a dialogue or a completion, to ids of which some are due."""
