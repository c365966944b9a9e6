"""The peer of training_step.py: the same training step in PyTorch, in one of its variants, for turns.serve.

It imports torch and numpy alone: this process has no other library's threads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from turns import serve

# What each variant has beside float32 on a CPU, or bfloat16 autocast on a GPU, and fused optimisers on both.
VARIANTS: dict[str, dict[str, dict]] = {
    "cpu": {
        "plain": {},
        "channels_last": {"channels_last": True},
        "torch.compile": {"compile": "default"},
        "channels_last, torch.compile": {"channels_last": True, "compile": "default"},
    },
    "gpu": {
        "plain": {},
        "channels_last": {"channels_last": True},
        "torch.compile": {"compile": "default"},
        "channels_last, torch.compile": {"channels_last": True, "compile": "default"},
        "channels_last, torch.compile max-autotune": {"channels_last": True, "compile": "max-autotune"},
    },
}


def draw_triplets(labels, pair_weights, number: int):
    """Rows of anchors, positives and negatives, (number,) each: class pairs ∝ their weight, then rows alike.

    A pair of rows has its classes' weight over the numbers of their rows, so that one draw among rows is a
    draw of the pair of classes and of a row of each.
    """
    import torch

    rows = torch.bincount(labels, minlength=pair_weights.shape[0])
    mine = rows[labels]
    weights = pair_weights[labels[:, None], labels] / (mine[:, None] * mine)
    served = (mine[:, None] >= 2) & (labels[:, None] != labels)
    weights = torch.where(served, weights, 0).flatten()
    pair = torch.multinomial(weights, number, replacement=True)
    anchor, negative = pair // labels.numel(), pair % labels.numel()
    order = torch.argsort(labels)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
    starts = rows.cumsum(0) - rows
    begins, sizes = starts[labels[anchor]], mine[anchor]
    # Another row of the class: one to sizes − 1 places on, round the class.
    ahead = 1 + (torch.rand(number, device=labels.device) * (sizes - 1)).long()
    positive = order[begins + (place[anchor] - begins + ahead) % sizes]
    return anchor, positive, negative


def begin() -> tuple[Callable[[int], object], dict]:
    """A step on the joint objective, compiled where asked, and warm."""
    import torch
    from torch.nn import functional
    from torch_networks import network

    settings, arrays = json.loads(sys.argv[1]), np.load(sys.argv[2])
    variant = VARIANTS[settings["platform"]][settings["variant"]]
    gpu = settings["platform"] == "gpu"
    device = torch.device("cuda" if gpu else "cpu")
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if variant.get("channels_last") else torch.contiguous_format
    model = network(
        settings["network"],
        classes=arrays["class_weights"].size,
        embedding_size=settings["embedding_size"],
        embedding_from=settings["embedding_from"],
    )
    model = model.to(device, memory_format=layout).train()
    images = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).to(device).contiguous(memory_format=layout)
    labels, class_weights, pair_weights = (
        torch.as_tensor(arrays[name], device=device) for name in ("label", "class_weights", "pair_weights")
    )
    labels = labels.long()
    scale, shift = (torch.tensor(arrays[name], device=device).view(3, 1, 1) for name in ("scale", "shift"))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings["weight_decay"]},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if settings["optimizer"] == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            groups, settings["learning_rate"], momentum=settings["momentum"], nesterov=True, fused=True
        )
    else:
        optimizer = torch.optim.AdamW(groups, settings["learning_rate"], fused=True)
    counts = torch.zeros_like(pair_weights)
    metrics = torch.zeros(2, device=device)

    def objective(images, labels, class_weights, pair_weights):
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            logits, embeddings = model(images * scale + shift)
        losses = functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=settings["label_smoothing"]
        )
        anchor, positive, negative = draw_triplets(labels, pair_weights, settings["triplets"])
        rows = embeddings[anchor]
        near = (rows - embeddings[positive]).square().sum(1)
        far = (rows - embeddings[negative]).square().sum(1)
        triplet = functional.relu(near - far + settings["margin"]).mean()
        return (losses * class_weights[labels]).mean() + settings["triplet_weight"] * triplet, logits.detach()

    if variant.get("compile"):
        objective = torch.compile(objective, mode=variant["compile"], dynamic=False)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss, logits = objective(images, labels, class_weights, pair_weights)
        loss.backward()
        if settings["clip_norm"] > 0:
            torch.nn.utils.clip_grad_norm_(matrices + vectors, settings["clip_norm"], foreach=True)
        optimizer.step()
        with torch.no_grad():
            counts.index_add_(0, labels, logits.softmax(1))
            metrics.add_(torch.stack([loss, (logits.argmax(1) == labels).float().mean()]))

    def run(steps: int) -> None:
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()

    run(3)
    if not bool(torch.isfinite(metrics).all()):
        raise ValueError(f"the loss is {float(metrics[0])}")
    return run, {
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    serve(begin)
