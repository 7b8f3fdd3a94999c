"""The run folder: the one place that writes runs."""
