"""CUB-200-2011 as the field fine-tunes it today: ResNet-50, 448 px, the four methods.

Command:  cdml reproduce --config=cub200 --config.source=cub200:DIR
Hardware: one GPU of 24 GB, or a TPU host: batches of 64 in bfloat16. Not yet run.
Expect:   about 84.5 % for the baseline: one run from the same weights, by a like recipe on all training
          images, reached 84.55 % (github.com/Shafwansafi06/BirdShift, release 1.0); here a tenth validates.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_resnet50(base.get_config())
    config.source = "cub200:"
    config.data.validation_fraction = 0.1
    return config
