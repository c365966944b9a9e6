"""CUB-200-2011 at 160 pixels: EfficientNet-Lite0 at 144, fine-tuned from ImageNet; the paper's four methods.

Command:  cdml reproduce --config=cub200_160 --config.source=cub200:DIR
Hardware: 2 CPU cores. All blocks of the network stay as ImageNet left them and are computed once, for eight
          augmented views of each training image; the last convolution with its batch norm, and the
          classifier, are trained. On a GPU, cub200_160_whole trains the whole network.
Expect:   docs/results.md, "CUB-200-2011 at 160 pixels".

The settings, the seeds and the comparisons were fixed before the test split was read:
experiments/plan_cub.md.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.source = "cub200:"
    config.data.validation_fraction = 0.1
    config.image.update({"image_size": 144, "jitter": 0.2})
    config.model.update(
        {
            "name": "efficientnet_lite0",
            "weights": "imagenet",
            "embedding_from": "features",
            "frozen": "16",
            "frozen_views": 8,
        }
    )
    config.update({"epochs": 10, "warmup_epochs": 2, "batch_size": 64, "evaluate_every": 10})
    config.optimizer.update({"learning_rate": 0.02, "weight_decay": 1e-4, "head_multiplier": 5.0})
    config.mesh.cpu_devices = 2
    # Training and validation images are trained on. The baseline's confusion on folds of them chooses what
    # the figures show.
    config.reproduce.folds = 5
    return config
