"""Penna: small GPT language models, from text to a model that writes."""

__version__ = "0.1.0"
