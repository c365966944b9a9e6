"""Which images are in which split: roles, folds, and sources made of others."""
