"""A configuration as a person writes one, with a network of their own that compiles in a second."""

from flax import nnx
from ml_collections import ConfigDict

from cdml_jax.configs import base
from cdml_jax.models import NETWORKS, Network, Variant
from cdml_jax.models.heads import Heads


class Small(Network):
    """One convolution with batch norm, its mean over the image, two heads."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        dtypes = {"dtype": spec.dtype, "param_dtype": spec.param_dtype}
        self.convolution = nnx.Conv(3, 8, (5, 5), strides=2, use_bias=False, **dtypes, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.8, **dtypes, rngs=rngs)
        self.heads = Heads(8, spec, rngs=rngs)

    def __call__(self, images, *, train):
        x = self.convolution(images.astype(self.dtype))
        return self.heads(nnx.relu(self.norm(x, use_running_average=not train)).mean((1, 2)))


def get_config() -> ConfigDict:
    NETWORKS["small"] = Variant(Small)
    config = base.get_config()
    config.model.update({"name": "small", "embedding_size": 8})
    config.image.update({"image_size": 16, "scale": (0.6, 1.0)})
    config.data.update({"validation_fraction": 0.2, "test_fraction": 0.1, "num_threads": 0})
    config.sampling.update({"images_per_class": 2, "classes_per_group": 2})
    config.confusion.counts = "hard"
    config.update({"epochs": 5, "warmup_epochs": 1, "batch_size": 8, "evaluate_every": 2})
    return config
