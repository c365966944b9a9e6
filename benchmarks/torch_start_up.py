"""The peer of start_up.py: the demo's network and objective on random images, until a step is done.

python benchmarks/torch_start_up.py [--compile]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.nn import functional
from torch_networks import network
from torch_training_step import draw_triplets

CLASSES, IMAGES, SIDE, BATCH = 48, 960, 56, 48


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8))
    labels = torch.from_numpy(rng.integers(0, CLASSES, IMAGES))
    model = network("small_resnet", classes=CLASSES, embedding_size=128, embedding_from="features").train()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    class_weights = torch.ones(CLASSES)
    pair_weights = (1 - torch.eye(CLASSES)) / (CLASSES * (CLASSES - 1))

    def objective(batch: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        logits, embeddings = model(batch.permute(0, 3, 1, 2).float() / 127.5 - 1)
        losses = functional.cross_entropy(logits, classes, reduction="none")
        anchor, positive, negative = draw_triplets(classes, pair_weights, 4 * BATCH)
        near = (embeddings[anchor] - embeddings[positive]).square().sum(1)
        far = (embeddings[anchor] - embeddings[negative]).square().sum(1)
        return (losses * class_weights[classes]).mean() + functional.relu(near - far + 0.2).mean()

    if "--compile" in sys.argv:
        objective = torch.compile(objective, dynamic=False)
    chosen = torch.randperm(IMAGES)[:BATCH]
    loss = objective(images[chosen], labels[chosen])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 5.0, foreach=True)
    optimizer.step()
    print(f"The first step was done: loss {loss.item():.3f}", flush=True)


if __name__ == "__main__":
    main()
