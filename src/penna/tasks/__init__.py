"""Data, objective and evaluator of each task."""
