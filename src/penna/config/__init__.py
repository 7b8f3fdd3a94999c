"""Recipes, experiments and generation settings: typed, validated, read from and written to TOML."""
