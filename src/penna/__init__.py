"""Penna: train, fine-tune, explain and serve small GPT language models."""

__version__ = "0.2.0.dev0"
