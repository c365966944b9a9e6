"""The paper's tables and figure on CUB-200-2011: 224 px, a network of its time, the four methods.

Command:  cdml reproduce --config=cub200_paper --config.source=cub200:DIR --config.model.weights=FILE
          Without the data, at CUB's size on drawn birds:
          cdml reproduce --config=cub200_paper --config.source=synthetic_birds/cub_like
Hardware: one GPU of 16 GB. Not yet run on CUB-200-2011.
Expect:   82.33 % for the baseline and 84.88 % for CDML are the paper's figures (Zhao and Peng, MMM 2018),
          as the slides of its talk give them.

DIR holds CUB_200_2011 (docs/datasets.md). FILE holds torchvision's `googlenet` (GoogLeNet with batch norm,
ImageNet): googlenet-1378be20.pth as torchvision offers it, or the same in safetensors.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.paper(base.get_config())
    config.source = "cub200:"
    config.data.validation_fraction = 0.1  # CUB has no validation split of its own
    config.image.update({"image_size": 224, "resize": 256, "scale": (0.4, 1.0), "jitter": 0.2})
    config.model.update({"name": "googlenet", "embedding_from": "features"})
    config.update({"epochs": 50, "warmup_epochs": 10, "batch_size": 64, "evaluate_every": 5})
    config.optimizer.update({"learning_rate": 0.005, "head_multiplier": 10.0})
    return config
