"""Tokenizers: loading, training, encoding, decoding, and chat templates. No torch."""
