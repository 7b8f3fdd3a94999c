"""The recipes that come with Penna, as TOML files."""
