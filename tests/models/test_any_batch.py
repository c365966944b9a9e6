"""Networks and parts take a batch whose size is not known: what an export is made of."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import export
from tiny_run import TinyStages

from cdml_jax.models import NETWORKS, Spec, Variant, build, vit
from cdml_jax.models.parts import PARTS


def traced(name, side, **options):
    """The program of a network for `batch` images."""
    (batch,) = export.symbolic_shape("batch")

    def network(images):
        spec = Spec(num_classes=4, embedding_size=3)
        return build(name, spec, rngs=nnx.Rngs(0), **options)(images, train=False)

    return jax.make_jaxpr(network)(jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32))


@pytest.mark.parametrize("part", ["", *PARTS])
def test_a_network_with_a_part_takes_any_batch(monkeypatch, part):
    monkeypatch.setitem(NETWORKS, "tiny_stages", Variant(TinyStages))
    families = {"families": (0, 0, 1, 1)} if part == "two_levels" else {}
    outputs = traced("tiny_stages", 16, part=part, **families).out_avals
    assert [str(output.shape) for output in outputs] == ["(batch, 4)", "(batch, 3)"]


def test_a_vision_transformer_of_any_batch_gathers_nothing(monkeypatch):
    """LiteRT has no operation for a gather from a batch of any size."""
    monkeypatch.setattr(vit, "BLOCKS", 1)
    program = str(traced("vit_small_patch16", 32))
    assert "slice" in program
    assert "gather" not in program
