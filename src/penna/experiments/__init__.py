"""The experiments that come with Penna, as TOML files."""
