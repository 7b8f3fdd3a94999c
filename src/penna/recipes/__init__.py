"""The recipes that ship, as TOML."""
