"""Examples: labeled texts, dialogues and completions as token ids with target masks."""
