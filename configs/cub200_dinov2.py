"""CUB-200-2011 from DINOv2's ViT-S/14, fine-tuned whole at 448 px, the four methods.

Command:  cdml reproduce --config=cub200_dinov2 --config.source=cub200:DIR
          The heads alone, on features that are computed once: add --config.model.frozen=backbone
Hardware: one GPU of 24 GB. Not yet run.
Expect:   88.1 % is what logistic regression on frozen features of this network reaches (Oquab et al.,
          "DINOv2", arXiv:2304.07193, the table of frozen features on 12 transfer benchmarks).
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_dinov2(base.get_config())
    config.source = "cub200:"
    config.data.validation_fraction = 0.1
    return config
