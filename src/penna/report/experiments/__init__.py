"""Runs held against each other: figures, tables, warnings, a report."""
