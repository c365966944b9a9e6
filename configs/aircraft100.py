"""FGVC-Aircraft: ResNet-50, 448 px, the four methods.

Command:  cdml reproduce --config=aircraft100 --config.source=aircraft100:DIR
Hardware: one GPU of 24 GB, or a TPU host: batches of 64 in bfloat16. Not yet run.
Expect:   no figure of a like network and recipe is known to us that we could check at its source.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_resnet50(base.get_config())
    config.source = "aircraft100:"
    return config
