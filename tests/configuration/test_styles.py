"""The style of trained weights is taken from their file, where none is set."""

import numpy as np
import pytest
from messages import says
from safetensors.numpy import save_file

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.configuration.styles import styled


def settings(tmp_path, metadata, **more):
    save_file({"a": np.ones(2)}, tmp_path / "w.safetensors", metadata=metadata)
    return changed(defaults(), {"model.weights": str(tmp_path / "w.safetensors")} | more)


@pytest.mark.parametrize("metadata", [{"style": "tensorflow"}, {"padding": "SAME (TensorFlow)"}])
def test_the_style_of_the_file_is_taken_and_said(tmp_path, capsys, metadata):
    before = settings(tmp_path, metadata, **{"model.name": "mobilenet_v2"})
    after = styled(before)
    assert after == changed(before, {"model.style": "tensorflow"})
    said = capsys.readouterr().out
    assert says(f"model.style: tensorflow, as {tmp_path / 'w.safetensors'} says of its weights\n", said)


@pytest.mark.parametrize(
    ("metadata", "more"),
    [
        ({"style": "tensorflow"}, {"model.name": "mobilenet_v2", "model.style": "torchvision"}),
        ({"style": "tensorflow"}, {"model.name": "small_resnet"}),
        ({"style": "caffe"}, {"model.name": "mobilenet_v2"}),
        ({"source": "here"}, {"model.name": "mobilenet_v2"}),
        ({"style": "tensorflow"}, {"model.name": "no_such_network"}),
    ],
    ids=["set", "network without", "unknown", "not said", "unknown network"],
)
def test_nothing_is_changed_where_it_is_set_or_cannot_be(tmp_path, capsys, metadata, more):
    before = settings(tmp_path, metadata, **more)
    assert styled(before) is before
    assert capsys.readouterr().out == ""


def test_no_weights_have_no_style_nor_have_absent_ones(tmp_path):
    """A run that has begun does without its weights; of another one they are refused by name."""
    absent = {"model.weights": str(tmp_path / "none.safetensors"), "model.name": "mobilenet_v2"}
    for settings in (defaults(), changed(defaults(), absent)):
        assert styled(settings) is settings


def test_the_networks_own_weights_are_of_its_own_style(capsys):
    settings = changed(defaults(), {"model.name": "mobilenet_v2", "model.weights": "imagenet"})
    assert styled(settings) == settings
    assert capsys.readouterr().out == ""
