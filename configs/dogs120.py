"""Stanford Dogs: ResNet-50, 448 px, the four methods.

Command:  cdml reproduce --config=dogs120 --config.source=dogs120:DIR
Hardware: one GPU of 24 GB, or a TPU host: batches of 64 in bfloat16. Not yet run.
Expect:   no figure of a like network and recipe is known to us.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_resnet50(base.get_config())
    config.source = "dogs120:"
    config.data.validation_fraction = 0.1
    return config
