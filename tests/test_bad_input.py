"""What a person gets for a mistake: what is wrong, where, and what to do; never a traceback."""

import ast
from pathlib import Path

import numpy as np
import pytest
from bad_input_cases import CASES
from bad_inputs import CLASSES, ROWS, World, encoded, picture
from messages import says
from PIL import Image

import cdml_jax
from cdml_jax.cli import main as cli
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.load import load_arguments
from cdml_jax.configuration.settings import changed
from cdml_jax.data.feeds.batches import read_image
from cdml_jax.data.sources import load
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop, workdir
from cdml_jax.training.program import Program


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with the checkpoint of step 0; TRAINED stands for its images."""
    root = tmp_path_factory.mktemp("trained")
    world = World(root, root)
    arguments = [a for a in world.train()[1:] if not a.startswith("--workdir")]
    config = load_arguments(arguments).settings
    dataset = load_dataset(changed(config, {"data.data_dir": str(root)}))
    method = {"title": "CDML", "embedding": "projection"}
    workdir.claim(world.run, "train", config, dataset.fingerprint(), method=method)
    loop.fit(Program(config, dataset), METHODS["cdml"], 0, until_epoch=0, folder=world.run, save_last=True)
    stored = world.run / "config.json"
    stored.write_text(stored.read_text().replace(str(world.birds), "TRAINED"))  # `continued` seals it again
    return world.run


@pytest.fixture
def world(tmp_path, trained, monkeypatch):
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, trained)


@pytest.mark.parametrize(("given", "message"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_a_mistake_is_answered_in_a_message(world, capsys, given, message):
    arguments = given(world)
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == 2
    said = capsys.readouterr().err.strip().replace(str(world.root), "DIR")
    assert said.startswith("cdml: ")
    assert says(message, said.removeprefix("cdml: ")), said
    assert "Traceback" not in said
    assert not (world.root / "unpickled").exists()
    assert not list(world.root.glob("run/checkpoints/damaged-*")) or "is damaged" in said


GREY = np.linspace(0, 255, 20 * 24).astype(np.uint8).reshape(20, 24)
RGB = picture(5)
ODD = {
    "grey": (encoded(GREY, "PNG"), np.repeat(GREY[..., None], 3, 2)),
    "16 bits": (
        encoded(Image.fromarray(GREY.astype(np.uint16) * 256 + 7), "PNG"),
        np.repeat(GREY[..., None], 3, 2),
    ),
    "palette": (encoded(Image.fromarray(RGB // 128 * 255).quantize(8), "PNG"), RGB // 128 * 255),
    "alpha": (
        encoded(np.dstack([RGB, GREY]), "PNG"),
        np.round(RGB * (GREY[..., None] / 255) + 255 - GREY[..., None]),
    ),
    "CMYK": (
        encoded(Image.new("CMYK", (24, 20), (0, 255, 255, 0)), "JPEG"),
        np.full((20, 24, 3), (255, 0, 0)),
    ),
    "animation": (
        encoded(
            Image.new("RGB", (24, 20), "lime"),
            "GIF",
            save_all=True,
            append_images=[Image.new("RGB", (24, 20))],
        ),
        np.full((20, 24, 3), (0, 255, 0)),
    ),
    "bitmap under another name": (encoded(RGB, "BMP"), RGB),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_images_are_read_as_they_look(world, kind):
    data, expected = ODD[kind]
    world.image(data)
    source = load(f"folder:{world.birds}").splits["train"]
    index = [source.name(i) for i in range(len(source))].index("crow/9.jpg")
    image = read_image(source, index)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), expected, atol=2)  # CMYK comes through JPEG


@pytest.mark.parametrize(
    "text",
    [ROWS.encode("utf-16"), b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode()],
    ids=["UTF-16", "BOM, CRLF"],
)
def test_odd_lists_are_read(world, text):
    world.lists(text)
    source = load(f"list:{world.birds}").splits["train"]
    assert np.asarray(source.labels).tolist() == [0] * 6 + [1] * 6
    assert source.name(11) == "owl/5.png"


def test_a_link_to_a_folder_above_is_passed_over(world):
    world.link("crow/all", world.birds)
    dataset = load(f"folder:{world.birds}")
    assert dataset.classes.names == CLASSES
    assert len(dataset.splits["train"]) == 12


FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile", "zipfile"}
UNSAFE_CALLS = {"unpack_archive", "extractall", "extract", "unsafe_load", "full_load", "exec", "eval"}


def _faults(tree):
    """Where a module of ours could run what a file holds, or let an archive write."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN:
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name != "BadZipFile")
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            options = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if name in UNSAFE_CALLS:
                yield name
            elif (owner, name) == ("np", "load") and options.get("allow_pickle") is not False:
                yield "np.load without allow_pickle=False"
            elif (owner, name) == ("torch", "load") and options.get("weights_only") is not True:
                yield "torch.load without weights_only=True"
            elif options.get("allow_pickle"):
                yield f"{name} with allow_pickle"


def test_nothing_is_unpickled_and_no_archive_extracted():
    """No module imports what could: whoever has an archive extracts it, with tools of their own."""
    found = {
        path.name: faults
        for path in Path(cdml_jax.__file__).parent.rglob("*.py")
        if (faults := list(_faults(ast.parse(path.read_text()))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import load",
        "import tarfile",
        "from zipfile import ZipFile",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "yaml.unsafe_load(f)",
        "shutil.unpack_archive(f)",
    ],
)
def test_the_search_for_unpickling_finds_it(code):
    assert list(_faults(ast.parse(code)))
