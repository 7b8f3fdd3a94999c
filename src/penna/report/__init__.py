"""Runs to tables, figures and reports."""
