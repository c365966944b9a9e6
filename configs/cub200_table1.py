"""CUB-200-2011 at 160 pixels: table 1, the paper's method and the other systems that are here as methods.

Command:  cdml reproduce --config=cub200_table1 --config.source=cub200:DIR
Hardware: as cub200_160, whose network, front, sizes and schedule it has: EfficientNet-Lite0 at 144, all its
          blocks as ImageNet left them, the last convolution and the classifier trained. Mutual channels are
          the last convolution's 1,280, six or seven a class.
Expect:   docs/peers.md, "On CUB-200-2011".

The plan of the paper's table holds for this one too (experiments/plan_cub.md): the test split is read once,
by the last step's model, and no method is tuned. Two label levels need families, which CUB has none of;
dropping is for wrong labels. Methods that look at crops, and pmg, need the whole network, and compact
bilinear pooling of 1,280 channels takes a quarter of an hour a run on 2 cores: name them by
--config.reproduce.methods.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import cub200_160

METHODS = (
    "baseline",
    "cdml",
    "uniform_pairs",
    "semi_hard",
    "batch_hard",
    "soft_mining",
    "confused_soft_mining",
    "cdml_soft_mining",
    "mutual_channel",
    "cdml_mutual_channel",
    "pairwise_confusion",
    "confused_pairs",
    "inverse_frequency",
    "class_balanced",
    "focal",
    "bilinear",
)


def get_config() -> ConfigDict:
    config = cub200_160.get_config()
    config.reproduce.methods = METHODS
    return config
