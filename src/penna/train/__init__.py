"""Batches and an objective to a trained run."""
