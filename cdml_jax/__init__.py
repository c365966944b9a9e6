"""Cost-sensitive deep metric learning in JAX."""
