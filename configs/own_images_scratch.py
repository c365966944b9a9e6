"""Your own photographs, from scratch with a small network, or from weights of your own.

Command:  cdml train --config=own_images_scratch --config.source=folder:DIR --workdir=runs/mine
          cdml reproduce --config=own_images_scratch --config.source=folder:DIR --workdir=runs/mine-table
Hardware: any; about 300 images/s on 2 CPU cores.
Expect:   depends on the images.

DIR holds one folder per class, nested to any depth, or `train`, `val` and `test` folders of such. Without
them, 15 % of each class validate and 15 % test.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.source = "folder:"
    config.data.validation_fraction = 0.15
    config.data.test_fraction = 0.15
    config.image.update({"image_size": 96, "jitter": 0.2})
    config.epochs = 40
    config.warmup_epochs = 8
    config.batch_size = 32
    config.evaluate_every = 2
    config.mesh.cpu_devices = 2
    # Composed batches cost accuracy wherever a whole network was trained with them; see docs/results.md.
    config.sampling.composed = 0.0
    return config
