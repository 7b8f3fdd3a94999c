"""Metrics of models and texts."""
