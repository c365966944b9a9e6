"""A run over time and on disk: the loop, checkpoints, the workdir, logs, and what is measured of it."""
