"""CUB-200-2011 at 160 pixels, the whole of EfficientNet-Lite0 fine-tuned from ImageNet, on one GPU.

Command:  cdml reproduce --config=cub200_160_whole --config.source=cub200:DIR
Hardware: one GPU. On 2 CPU cores an epoch takes more than two minutes.
Expect:   docs/results.md, "CUB-200-2011 at 160 pixels, the whole network".

Learning rate and label smoothing were chosen for the baseline on held-out training images, batches that are
not composed for CDML; seeds and comparisons were fixed before the test split was read:
experiments/plan_cub.md.
"""

from ml_collections import ConfigDict

from cdml_jax.configs import cub200_160


def get_config() -> ConfigDict:
    config = cub200_160.get_config()
    config.model.frozen = ""
    config.update({"epochs": 15, "warmup_epochs": 3, "batch_size": 128, "evaluate_every": 15})
    config.optimizer.learning_rate = 0.1
    config.objective.label_smoothing = 0.1
    config.sampling.composed = 0.0
    config.data.num_threads = 4
    config.mesh.cpu_devices = 0
    return config
