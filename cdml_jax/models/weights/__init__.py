"""Weights of networks: where files come from, other libraries' names, and into a network, strictly."""
