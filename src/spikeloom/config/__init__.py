"""Recipes: the schema, TOML files with `extends`, `key=value` overrides, and their error texts."""
