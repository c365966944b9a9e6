"""Settings: typed values, read once from a name or a file, checked before anything slow starts."""
