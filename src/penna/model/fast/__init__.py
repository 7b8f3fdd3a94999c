"""Faster paths for decoding, with the same numbers as the plain ones."""
