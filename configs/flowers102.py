"""Oxford Flowers-102: the heads alone on frozen features of DINOv2's ViT-S/14, the four methods.

Command:  cdml reproduce --config=flowers102 --config.source=flowers102:DIR
          Fine-tuned whole: add --config.model.frozen=""
Hardware: any GPU, or a CPU and some patience while features are computed once. Not yet run.
Expect:   99.6 % is what logistic regression on frozen features of this network reaches (Oquab et al.,
          "DINOv2", arXiv:2304.07193, the table of frozen features on 12 transfer benchmarks).

Ten training images a class: classes are learned from few examples, and triplets of a frozen front move the
projection alone.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.fine_tune_dinov2(base.get_config())
    config.source = "flowers102:"
    config.image.image_size = 224
    config.model.update({"frozen": "backbone", "embedding_from": "projection", "remat": False})
    config.optimizer.update({"layer_decay": 1.0, "learning_rate": 1e-3, "head_multiplier": 1.0})
    return config
