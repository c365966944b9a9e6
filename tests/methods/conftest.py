"""The tiny network, data set and settings."""

from tiny_run import config, dataset, tiny_networks  # noqa: F401
