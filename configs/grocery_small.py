"""The Grocery Store Dataset (81 fine-grained classes) at 64 px, from scratch with the small network.

Command:  cdml reproduce --config=grocery_small --config.source=grocery:DIR
Hardware: 2 CPU cores, 20 minutes.
Expect:   see docs/results.md.

DIR holds the data set as its authors publish it (M. Klasson, C. Zhang and H. Kjellström, WACV 2019;
docs/datasets.md). Fine-tuning pretrained weights is better in every
way: this shows what the method does to an under-fitted network.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.source = "grocery:"
    config.image.update({"image_size": 64, "scale": (0.4, 1.0), "jitter": 0.3})
    config.epochs = 20
    config.warmup_epochs = 4
    config.batch_size = 64
    config.evaluate_every = 5
    config.mesh.cpu_devices = 2
    config.optimizer.learning_rate = 0.1
    # An under-fitted network is hurt by hard examples: a small λ, and batches as they come.
    config.objective.triplet_weight = 0.1
    config.sampling.composed = 0.0
    return config
