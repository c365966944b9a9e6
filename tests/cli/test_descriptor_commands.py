"""Descriptors, boxes and the table by their commands, by a network whose maps can be computed by hand."""

import csv
import json

import cv2
import jax.numpy as jnp
import miniature_archives
import numpy as np
import pytest
from flax import nnx

from cdml_jax.cli import main as cli
from cdml_jax.data.readers.boxes import COLUMNS
from cdml_jax.models import NETWORKS, Network, Spec, Variant, build
from cdml_jax.models.heads import Heads
from cdml_jax.models.layers import mean_pool
from cdml_jax.models.weights.loading import save_weights
from cdml_jax.training.state import split_model

SIDE, CELL = 64, 8
COLOURS = {"red": (255, 30, 0), "blue": (0, 60, 255)}


def halved(x):
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class Half(nnx.Module):
    """Means of 2 x 2 positions."""

    def __call__(self, x, *, train):
        return halved(x)


class Colours(Network):
    """Mean colours of 4 x 4 pixels, from 0 to 1; the last map is that of 8 x 8 pixels."""

    entry_names = ("gain",)

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        self.gain = nnx.Param(jnp.ones(3))
        self.blocks = nnx.List([Half()])
        self.heads = Heads(3, spec, rngs=rngs)

    def enter(self, images, *, train):
        return halved(halved((images + 1) / 2)) * self.gain[...]

    def pool(self, x, *, train):
        return mean_pool(x)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs of one rectangle on black, in a folder for each colour; the network's flags."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "colours", Variant(Colours))
        patch.setenv("CDML_DATA_DIR", str(folder / "data"))
        patch.chdir(folder)
        _, *arrays = split_model(build("colours", Spec(num_classes=1), rngs=nnx.Rngs(0)))
        save_weights(folder / "colours.safetensors", *arrays, {})
        for name, colour in COLOURS.items():
            for k in range(6):
                write(folder / "photographs" / name / f"{name}, {k}.png", colour, *cells_of(k))
        yield folder


NETWORK = [
    "--config=own_images",
    "--config.model.name=colours",
    "--config.model.weights=colours.safetensors",
    f"--config.image.image_size={SIDE}",
]


def cells_of(k):
    """Left, top, right and bottom of the rectangle of photograph k, in cells."""
    return (1 + k % 3, k % 2, 4 + k % 3, 3 + k // 2)


def write(path, colour, left, top, right, bottom):
    """A photograph of 128 x 96 pixels: a cell of the map is 16 x 12 of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((96, 128, 3), np.uint8)
    image[12 * top : 12 * bottom, 16 * left : 16 * right] = colour[::-1]
    cv2.imwrite(str(path), image)


def pixels_of(k):
    left, top, right, bottom = cells_of(k)
    return [16 * left, 12 * top, 16 * right, 12 * bottom]


def read(path):
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    return {name: list(map(float, numbers)) for name, *numbers in rows[1:]}


def test_localize_finds_what_each_photograph_shows(place, capsys):
    expected = {f"{name}/{name}, {k}.png": [*pixels_of(k), 128, 96, 1] for name in COLOURS for k in range(6)}
    arguments = ["localize", *NETWORK, "photographs"]
    assert cli.main([*arguments, "--out=scda.csv", "--method=scda"]) == 0
    assert read(place / "scda.csv") == expected
    assert cli.main([*arguments, "--out=boxes.csv", "--picture=boxes.png"]) == 0
    assert read(place / "boxes.csv") == expected
    said = capsys.readouterr()
    assert "boxes.csv: boxes of 12 of 12 images" in said.out
    assert "fewer than" not in said.err
    picture = cv2.imread(str(place / "boxes.png"))
    assert (picture == (0, 94, 213)).all(axis=2).sum() > 1000  # the boxes' orange, in OpenCV's order


def test_localize_says_what_it_could_not_do(place, capsys):
    folder = place / "odd"
    write(folder / "black.png", (0, 0, 0), 1, 1, 3, 3)
    write(folder / "red.png", COLOURS["red"], 2, 2, 5, 5)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    assert cli.main(["localize", *NETWORK, "odd", "--out=odd.csv"]) == 2
    said = capsys.readouterr()
    assert "odd/torn.jpg: truncated; left out" in said.err
    assert "1 of 1 sets have fewer than 5 images, such as odd: ddt finds what the images of a set" in said.err
    assert "boxes of 2 of 3 images; nothing found in 1, whose box is the whole image" in said.out
    assert read(place / "odd.csv") == {
        "black.png": [0, 0, 128, 96, 128, 96, 0],
        "red.png": [32, 24, 80, 60, 128, 96, 1],
    }
    for more, message in (
        (["--out=odd.txt"], "--out: odd.txt does not end in .csv"),
        (["--out=odd.csv", "--image-size=0"], "--image-size: must be at least 1, not 0"),
        (["--out=odd.csv", "--image-size=30"], "--image-size: 30 pixels are not what this network takes"),
        (["--out=odd.csv", "--method=scda", "--sets=all"], "--sets: scda looks at each image by itself"),
        (["--out=odd.csv", "--nope"], "localize: unknown argument '--nope'"),
    ):
        assert cli.main(["localize", *NETWORK, "odd", *more]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["localize", "odd", "--out=odd.csv"]) == 2
    assert "localize: give --workdir=DIR of a trained run, or --config=NAME" in capsys.readouterr().err
    assert cli.main(["localize", *NETWORK, "--config.model.weights=", "odd", "--out=odd.csv"]) == 2
    assert "model.weights: without a trained run a network needs weights" in capsys.readouterr().err


@pytest.mark.parametrize("descriptor", ["scda_flip+", "ddt"])
def test_embed_and_search_go_by_the_colour_inside_the_rectangle(place, capsys, descriptor):
    out = f"{descriptor}.npz"
    assert cli.main(["embed", *NETWORK, f"--descriptor={descriptor}", "photographs", f"--out={out}"]) == 0
    with np.load(place / out) as file:
        rows, paths = file["embeddings"], file["paths"]
        assert ("direction" in file) == (descriptor == "ddt")
    # Each half is the colour, of length 1; parts of SCDA+ weigh 1 and 1/2.
    for path, row in zip(paths, rows):
        colour = np.array(COLOURS[path.partition("/")[0]]) / 255
        parts = [1, 0.5, 1, 0.5] if descriptor == "scda_flip+" else [1]
        whole = np.concatenate([part * np.tile(colour, 2) for part in parts])
        np.testing.assert_allclose(row, whole / np.linalg.norm(whole), atol=0.02)
    assert f"{descriptor} of {rows.shape[1]} numbers" in capsys.readouterr().out
    write(place / "asked.png", (10, 70, 240), 5, 1, 7, 6)
    search = ["search", f"--gallery={out}", "asked.png", "--top=6", "--json"]
    assert cli.main([*search, *NETWORK]) == 0
    matches = json.loads(capsys.readouterr().out.splitlines()[-1])["matches"]
    assert {match["path"].partition("/")[0] for match in matches} == {"blue"}
    if descriptor == "ddt":
        assert cli.main(search) == 2
        assert "was embedded by a pretrained network; give the --config=NAME" in capsys.readouterr().err
        assert cli.main([*search, "--config=own_images"]) == 2
        assert "was embedded by another network than --config=own_images names" in capsys.readouterr().err


def test_embed_refuses_flags_that_do_not_go_together(place, capsys):
    for more, message in (
        (["--image-size=64"], "--image-size: goes with --descriptor"),
        (["--descriptor=scda", "--logits"], "--logits: a descriptor comes without logits"),
        (["--logits"], "--logits: a pretrained network has no classes of yours"),
    ):
        assert cli.main(["embed", *NETWORK, "photographs", "--out=a.npz", *more]) == 2
        assert message in capsys.readouterr().err


def test_the_table_measures_a_published_set(place, capsys):
    """Of 5 images of 3 classes; what each retrieves is found again from the pictures themselves."""
    miniature = miniature_archives.write_cub(place / "cub")
    top = place / "cub/CUB_200_2011"
    known = ["1 0 0 16 12", "2 0 0 4 4", "3 0 0 16 8", "4 8 6 8 6"]
    (top / "bounding_boxes.txt").write_text("\n".join([*known, "5 a b c d"]) + "\n")
    arguments = ["descriptors", *NETWORK, "--config.source=cub200:cub", "--workdir=out"]
    arguments += ["--config.data.validation_fraction=0", "--config.data.test_fraction=0"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert "box that is not four numbers: bounding_boxes.txt line 5 (a b c d)" in said.err
    assert "published" not in said.out  # of another number of images
    record = json.loads((place / "out/descriptors.json").read_text())
    assert (record["queries"], record["gallery"], record["located"]) == (2, 3, 4)
    assert record["map_shape"] == [8, 8, 3]

    def mean_colour(name):
        image = cv2.imread(str(top / "images" / name))[:, :, ::-1] / 255.0
        colour = image.mean((0, 1))
        return colour / np.linalg.norm(colour)

    gallery = [(mean_colour(name), label) for name, label in miniature.splits["train"]]
    right = [
        label == min(gallery, key=lambda one: np.linalg.norm(one[0] - mean_colour(name)))[1]
        for name, label in miniature.splits["test"]
    ]
    assert record["encodings"]["average_all"]["top1"] == np.mean(right)
    sizes = {name: found["size"] for name, found in record["encodings"].items()}
    assert sizes == {
        "average": 3,
        "maximum": 3,
        "scda": 6,
        "scda+": 12,
        "scda_flip+": 24,
        "ddt": 6,
        "average_all": 3,
        "maximum_all": 3,
        "both_all": 6,
        "vlad": 6,
        "fisher": 12,
    }
    assert record["corloc"]["whole"] == [0.5, 0.5]  # 1 and 3 of the four; 1 of the test images 1 and 4
    names = {name for split in miniature.splits.values() for name, _ in split}
    assert set(read(place / "out/boxes_scda.csv")) == names
    assert (place / "out/boxes.png").exists()
    table = (place / "out/descriptors.md").read_text()
    assert "| average and maximum (SCDA)" in table
    assert f"colours (weights: colours.safetensors), whole images squeezed to {SIDE} px" in table
