"""Draft."""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.image.image_size = 56
    config.image.crop = "random"
    config.image.resize = 64
    return config
