"""A trained run, used and exported."""
