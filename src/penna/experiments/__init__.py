"""The experiments that ship, as TOML."""
