"""MobileNetV2 with ImageNet's weights names what is on photographs of fruit and vegetables.

Needs a folder with weights/mobilenet_v2_imagenet.safetensors and data/grocery/ (the Grocery Store Dataset):
`shared` beside the repository, or where the environment variable CDML_SHARED says.
"""

import functools
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from cdml_jax.data.images.decoding import decode
from cdml_jax.data.images.transforms import Transform, evaluation_view
from cdml_jax.errors import UserError
from cdml_jax.models import Spec, build
from cdml_jax.models.pixels import normalize_images
from cdml_jax.models.weights.loading import load_weights
from cdml_jax.training.state import split_model

SHARED = Path(os.environ.get("CDML_SHARED", Path(__file__).parents[3] / "shared"))
WEIGHTS = SHARED / "weights" / "mobilenet_v2_imagenet.safetensors"
GROCERY = SHARED / "data" / "grocery"
PEPPER = 945
CLASSES = {  # Grocery's class, ImageNet's number, photographs taken
    "Banana": (954, 12),
    "Lemon": (951, 12),
    "Granny-Smith": (948, 12),
    "Green-Bell-Pepper": (PEPPER, 3),
    "Orange-Bell-Pepper": (PEPPER, 3),
    "Red-Bell-Pepper": (PEPPER, 3),
    "Yellow-Bell-Pepper": (PEPPER, 3),
    "Zucchini": (939, 12),
    "Cabbage": (936, 12),
    "Pineapple": (953, 12),
    "Cucumber": (943, 12),
}

pytestmark = pytest.mark.skipif(
    not (WEIGHTS.is_file() and GROCERY.is_dir()),
    reason=f"{SHARED} lacks weights/mobilenet_v2_imagenet.safetensors or data/grocery; set CDML_SHARED",
)


def network(style, dtype="float32"):
    model = nnx.eval_shape(
        lambda: build(
            "mobilenet_v2",
            Spec(num_classes=1000, embedding_from="features", style=style, dtype=dtype),
            rngs=nnx.Rngs(0),
        )
    )
    graph, *shapes = split_model(model)
    trees = load_weights(str(WEIGHTS), *shapes, network="mobilenet_v2", style=style, keep_classifier=True)

    @jax.jit
    def logits(trees, images):
        return nnx.merge(graph, *trees)(normalize_images(images), train=False).logits

    return functools.partial(logits, trees)  # as arguments: XLA would fold constants


@pytest.fixture(scope="module")
def photographs():
    """Images (96, 224, 224, 3) uint8 of the test split and ImageNet's classes of them."""
    wanted = {name: number for name, (_, number) in CLASSES.items()}
    view = Transform(image_size=224, resize=224)
    images, labels = [], []
    for line in (GROCERY / "test.txt").read_text().splitlines():
        path = GROCERY / line.split(",")[0]
        name = path.parent.name
        if wanted.get(name, 0) > 0:
            wanted[name] -= 1
            images.append(evaluation_view(decode(path.read_bytes()), view))
            labels.append(CLASSES[name][0])
    return np.stack(images), np.array(labels)


def test_the_right_class_is_among_the_first_five(photographs):
    images, labels = photographs
    assert len(labels) == 96
    run = network("tensorflow")
    logits = np.concatenate([run(images[i : i + 16]) for i in range(0, len(images), 16)])
    first_five = np.argsort(-logits, axis=1)[:, :5]
    assert (first_five == labels[:, None]).any(1).mean() >= 0.85


def test_the_files_style_is_not_mistaken():
    with pytest.raises(UserError, match=r"set model.style=tensorflow"):
        network("torchvision")
