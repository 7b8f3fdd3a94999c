"""Prompt ids to new ids."""
