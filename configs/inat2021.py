"""iNaturalist 2021 (10,000 species): ResNet-50, 224 px, on many devices.

Command:  cdml train --config=inat2021 --config.source=inat2021:DIR
          (docs/clusters.md says how to start it)
Hardware: 8 GPUs of 40 GB or more, or a TPU slice; counts and pair weights are split by class. Not yet run.
Expect:   no figure of a like network and recipe is known to us.

The published test set has no labels: the 100,000 published validation images are the test split here, and a
fiftieth of the training images validates.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_resnet50(base.get_config())
    config.source = "inat2021:"
    config.data.update({"test": "validation", "validation": "", "validation_fraction": 0.02})
    config.data.update({"cache_bytes": 0, "num_threads": 16, "check": False})
    config.image.update({"image_size": 224, "crop": "random_resized", "resize": 256, "scale": (0.2, 1.0)})
    config.update({"epochs": 20, "warmup_epochs": 4, "batch_size": 1024, "evaluate_every": 1})
    config.optimizer.update({"learning_rate": 0.1, "head_multiplier": 1.0, "weight_decay": 1e-4})
    config.sampling.images_per_class = 2
    return config
