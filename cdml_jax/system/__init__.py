"""What the rest of the package stands on: files that are whole or absent, locks, caches, and the console."""
