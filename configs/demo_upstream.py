"""Pretrains the network that the demo fine-tunes, on 120 other species of drawn birds.

Command:  cdml train --config=demo_upstream --workdir=runs/demo_upstream
          python experiments/ship_weights.py runs/demo_upstream
Hardware: 2 CPU cores, about 5 minutes.
Expect:   91 % on its validation split.

The baseline alone: no cost-sensitive term is used upstream.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.source = "synthetic_birds/upstream"
    config.data.test = ""
    config.method = "baseline"
    config.image.update({"image_size": 56, "crop": "random_resized", "scale": (0.5, 1.0), "resize": 64})
    config.epochs = 30
    config.warmup_epochs = 0
    config.batch_size = 96
    config.evaluate_every = 5
    config.optimizer.learning_rate = 0.1
    return config
