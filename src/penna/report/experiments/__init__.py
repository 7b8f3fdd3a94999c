"""Comparisons of runs: metrics, tables, plots, warnings, and a report."""
