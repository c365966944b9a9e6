"""Weights from files, strictly."""

import jax
import numpy as np
import pytest
from flax import nnx
from messages import says
from safetensors.numpy import load_file, save_file

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.models.weights import files, loading
from cdml_jax.system.trees import named_leaves
from cdml_jax.training.state import split_model


def trees(seed, num_classes=3):
    return split_model(build("small_resnet", Spec(num_classes=num_classes), rngs=nnx.Rngs(seed)))[1:]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "body.safetensors"
    loading.save_weights(path, *trees(1), {"network": "small_resnet"})
    return path


def test_the_body_is_loaded_and_the_heads_stay(saved):
    """A classifier of other classes is no obstacle."""
    parameters, statistics = trees(2, num_classes=5)
    loaded, loaded_statistics = loading.load_weights(
        str(saved), parameters, statistics, network="small_resnet"
    )
    theirs = dict(named_leaves({"parameters": trees(1)[0]}))
    for name, leaf in named_leaves({"parameters": loaded}):
        if name.startswith("parameters.heads."):
            assert leaf is dict(named_leaves({"parameters": parameters}))[name]
        else:
            np.testing.assert_allclose(leaf, theirs[name], rtol=1e-3, atol=1e-5)
            assert leaf.dtype == np.float32
    assert jax.tree.structure(loaded_statistics) == jax.tree.structure(statistics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("parameters.stem.kernel"), "not in the file: parameters.stem.kernel"),
        (
            lambda v: v.update({"parameters.tail.kernel": np.ones(2)}),
            "not in the network: parameters.tail.kernel",
        ),
        (
            lambda v: v.update({"parameters.stem.kernel": np.ones((2, 2))}),
            r"parameters.stem.kernel is \(2, 2\)",
        ),
        (
            lambda v: v.update({"parameters.stem.kernel": np.full((3, 3, 12, 16), np.nan, np.float32)}),
            "not finite, in parameters.stem.kernel",
        ),
    ],
    ids=["missing", "extra", "shape", "nan"],
)
def test_what_does_not_fit_is_listed_and_refused(saved, tmp_path, change, message):
    values = load_file(saved)
    change(values)
    save_file(values, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=message):
        loading.load_weights(str(tmp_path / "other.safetensors"), *trees(2), network="small_resnet")


def test_a_file_that_is_none_or_broken_is_named(tmp_path):
    with pytest.raises(UserError, match="no file"):
        loading.load_weights(str(tmp_path / "none.safetensors"), *trees(2), network="small_resnet")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10")
    with pytest.raises(UserError, match="not a readable safetensors"):
        loading.load_weights(str(tmp_path / "broken.safetensors"), *trees(2), network="small_resnet")


@pytest.mark.parametrize("name", files.SHIPPED)
def test_shipped_weights_are_small_whole_and_fit(name):
    path = files.SHIPPED_FOLDER / f"{name}.safetensors"
    assert path.stat().st_size < 2_000_000
    parameters, statistics = trees(0)
    loaded, _ = loading.load_weights(name, parameters, statistics, network="small_resnet")
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(parameters), strict=True)
    ]
    assert sum(changed) > 20


def test_a_damaged_shipped_file_is_refused(tmp_path, monkeypatch):
    name = next(iter(files.SHIPPED))
    damaged = bytearray((files.SHIPPED_FOLDER / f"{name}.safetensors").read_bytes())
    damaged[-5] ^= 1
    (tmp_path / f"{name}.safetensors").write_bytes(damaged)
    monkeypatch.setattr(files, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(UserError, match="is damaged"):
        loading.load_weights(name, *trees(2), network="small_resnet")


def test_weights_of_another_style_are_refused(saved, tmp_path):
    for style, network, message in [
        ("tensorflow", "mobilenet_v2", "is of the style tensorflow; set model.style=tensorflow"),
        ("tensorflow", "small_resnet", "is of the style tensorflow, which small_resnet cannot have"),
        ("j\x1bx", "mobilenet_v2", r"of the style 'j\\x1bx'; known are torchvision, tensorflow"),
    ]:
        save_file(load_file(saved), tmp_path / "other.safetensors", metadata={"style": style})
        with pytest.raises(UserError, match=message):
            loading.load_weights(str(tmp_path / "other.safetensors"), *trees(2), network=network)


def test_another_librarys_file_is_spoken_of_once(tmp_path, capsys):
    """Whose names, what was taken off and left: not for each time that it is read."""
    shapes = split_model(nnx.eval_shape(lambda: build("resnet18", Spec(num_classes=3), rngs=nnx.Rngs(0))))[1:]
    table = NETWORKS["resnet18"].tables()["torchvision"]
    values = {}
    for name, leaf in named_leaves({"": shapes[0]} | {"s": shapes[1]}):
        short = name.partition(".")[2]
        if not short.startswith("heads."):
            value = np.zeros(leaf.shape, np.float32)
            values["module." + table.sources(short)[0]] = (
                value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            )
    values["module.fc.weight"] = np.zeros((1000, 512), np.float32)
    save_file(values, tmp_path / "w.safetensors")
    for quiet in (True, False):
        loading.load_weights(str(tmp_path / "w.safetensors"), *shapes, network="resnet18", quiet=quiet)
    assert says(
        f"Weights of {tmp_path / 'w.safetensors'}: {len(values) - 1} arrays by torchvision's names, "
        "'module.' in front of the names was taken off, 1 left out, such as fc.weight\n",
        capsys.readouterr().out,
    )
