"""The data, objective and evaluation of each task."""
