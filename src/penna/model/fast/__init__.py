"""Faster decoding with the results of the plain model."""
