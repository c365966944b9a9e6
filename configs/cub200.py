"""CUB-200-2011 as the field fine-tunes it today: ResNet-50, 448 px, the four rows.

Command:  cdml reproduce --config=cub200 --config.source=cub200:DIR
Hardware: one GPU of 24 GB, or a TPU host: batches of 64 in bfloat16. Not yet run.
Expect:   about 85.5 % for the baseline: a ResNet-50 baseline in Chen et al., "Destruction and Construction
          Learning for Fine-Grained Image Recognition", CVPR 2019.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_resnet50(base.get_config())
    config.source = "cub200:"
    config.data.validation_fraction = 0.1
    return config
