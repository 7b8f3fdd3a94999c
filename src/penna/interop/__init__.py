"""Model formats of other tools: Hugging Face classes, weights, generation settings and hub downloads."""
