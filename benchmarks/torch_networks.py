"""The networks of the training step as plain PyTorch modules, with the two heads that ours end in."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SMALL_WIDTHS = (16, 32, 64, 128)
# Expansion, output channels, blocks, stride of the first block.
MOBILE_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LITE_STAGES = (  # with the kernel's size at the end
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def conv_norm(
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution without a bias, batch norm, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))  # type: ignore[call-arg]
    return nn.Sequential(*layers)


class SmallBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs, 3, activation=None)
        )
        change = stride != 1 or inputs != outputs
        self.shortcut = conv_norm(inputs, outputs, 1, stride, activation=None) if change else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.branch(x) + shortcut, inplace=True)


class SmallResNet(nn.Module):
    """2 x 2 pixels folded into channels, a stem, four residual blocks, mean pooling."""

    features = SMALL_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        inputs = (SMALL_WIDTHS[0], *SMALL_WIDTHS[:-1])
        blocks = [SmallBlock(i, o, 1 if k == 0 else 2) for k, (i, o) in enumerate(zip(inputs, SMALL_WIDTHS))]
        self.layers = nn.Sequential(nn.PixelUnshuffle(2), conv_norm(12, SMALL_WIDTHS[0], 3), *blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


class InvertedResidual(nn.Module):
    """Expansion (unless by 1), depthwise convolution, linear projection, shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, size: int = 3):
        super().__init__()
        hidden = inputs * expansion
        expand = [conv_norm(inputs, hidden, 1, activation=nn.ReLU6)] if expansion > 1 else []
        self.branch = nn.Sequential(
            *expand,
            conv_norm(hidden, hidden, size, stride, groups=hidden, activation=nn.ReLU6),
            conv_norm(hidden, outputs, 1, activation=None),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x) if self.shortcut else self.branch(x)


class MobileNetV2(nn.Module):
    """Stem, inverted residual blocks, a last 1 x 1 convolution, mean pooling."""

    features = 1280
    stages: tuple[tuple[int, ...], ...] = MOBILE_STAGES

    def __init__(self) -> None:
        super().__init__()
        inputs = 32
        layers: list[nn.Module] = [conv_norm(3, inputs, 3, 2, activation=nn.ReLU6)]
        for expansion, outputs, number, stride, *size in self.stages:
            for k in range(number):
                layers.append(InvertedResidual(inputs, outputs, stride if k == 0 else 1, expansion, *size))
                inputs = outputs
        layers.append(conv_norm(inputs, self.features, 1, activation=nn.ReLU6))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


class EfficientNetLite0(MobileNetV2):
    """With zeros on both sides: to pad as TensorFlow does, PyTorch would copy every image."""

    stages = LITE_STAGES


class TwoHeads(nn.Module):
    """A backbone with a classifier and an L2-normalised embedding, as `cdml_jax.models.heads.Heads`."""

    def __init__(
        self, backbone: nn.Module, features: int, *, classes: int, embedding_size: int, embedding_from: str
    ):
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(features, classes)
        self.projection = (
            nn.Linear(features, embedding_size, bias=False) if embedding_from == "projection" else None
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        embeddings = features if self.projection is None else self.projection(features)
        return self.classifier(features).float(), functional.normalize(embeddings.float())


OURS = {
    "small_resnet": SmallResNet,
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
}
TIMM = {"resnet50": "resnet50", "vit_base_patch16": "vit_base_patch16_224"}


def network(name: str, **heads: int | str) -> TwoHeads:
    """A network by our name of it; the large ones are timm's.

    Raises:
      ImportError: timm is needed and not installed.
    """
    if name in OURS:
        backbone = OURS[name]()
        return TwoHeads(backbone, backbone.features, **heads)  # type: ignore[arg-type]
    import timm

    large = timm.create_model(TIMM[name], num_classes=0)
    return TwoHeads(large, large.num_features, **heads)  # type: ignore[arg-type]
