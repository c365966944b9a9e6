"""Trackers that a run's figures may go to, and the packages that bring them."""

WRITERS = {"wandb": "wandb", "mlflow": "mlflow"}
"""Name, which is the module's too, -> the package."""
