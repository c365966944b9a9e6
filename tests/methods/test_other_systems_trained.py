"""The other systems' methods: they fork from a warm-up of the same network, and are refused with a reason."""

import dataclasses

import jax
import numpy as np
import pytest
from etils import epath
from tiny_run import StopAt

from cdml_jax.configuration.settings import changed
from cdml_jax.data import ArraySource, Classes
from cdml_jax.distributed.signals import Interrupted
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.methods.cdml import CDML
from cdml_jax.methods.mutual_channel import MutualChannel
from cdml_jax.methods.soft_mining import SoftMining
from cdml_jax.methods.structure import Dropping, Structure
from cdml_jax.runs import loop
from cdml_jax.runs.beginning import refuse_method
from cdml_jax.runs.evaluation import measured_embedding
from cdml_jax.training.program import Program

STRUCTURE = Structure("both", (MutualChannel(), SoftMining()), dropping=Dropping(share=0.3, ramp=2))


def test_they_begin_as_the_baselines_warm_up_ended_and_continue(config, dataset, tmp_path):
    config = changed(config, {"model.name": "tiny_map"})
    plain = Program(config, dataset, jax.devices()[:1])
    own = plain.beside(structure=STRUCTURE)
    own = Program(config, dataset, jax.devices()[:1], feeds=plain.feeds, structure=STRUCTURE)
    method = dataclasses.replace(CDML, title="CDML on both", structure=STRUCTURE)
    warm = loop.fit(plain, METHODS["baseline"], 0, until_epoch=config.warmup_epochs)
    forked = loop.fit(own, method, 0, start=loop.fork(own, warm))
    straight = loop.fit(own, method, 0)
    for ours, theirs in zip(
        jax.tree.leaves(forked.state.parameters), jax.tree.leaves(straight.state.parameters), strict=True
    ):
        # Another compiled step trained the warm-up: the same but for the last digits.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    # Stopped in the middle of the last epoch: what is remembered of each image is in the checkpoint.
    with pytest.raises(Interrupted):
        loop.fit(own, method, 0, folder=epath.Path(tmp_path), stop=StopAt(3 * own.steps_per_epoch + 2))
    continued = loop.fit(own, method, 0, folder=epath.Path(tmp_path))
    for ours, theirs in zip(
        jax.tree.leaves((continued.state.parameters, continued.state.images)),
        jax.tree.leaves((straight.state.parameters, straight.state.images)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert own.traces["step"] == 1
    last = straight.history[-1]
    assert last["soft_mining_loss"] > 0
    assert np.isfinite(last["mutual_channel_loss"])
    # Three epochs after the warm-up: of composed batches, in which an image may be missing or come back.
    shares = [entry["dropped_share"] for entry in straight.history]
    assert shares[:3] == [0, 0, 0]
    assert 0.05 < shares[3] < 0.3


def test_what_a_network_or_a_data_set_lacks_is_refused(config, dataset):
    config = changed(config, {"model.name": "tiny_map"})
    program = Program(config, dataset, jax.devices()[:1])
    for name in ("mutual_channel", "soft_mining", "two_levels", "dropping"):
        refuse_method(METHODS[name], program)
    program.cut = 2
    with pytest.raises(
        UserError, match="leaves features and no map, which this method needs; freeze at most 1"
    ):
        refuse_method(METHODS["mutual_channel"], program)
    train = dataset.splits["train"]
    labels = np.arange(len(train), dtype=np.int32) % 8
    images = [train.image(index) for index in range(len(train))]
    many = dataclasses.replace(
        dataset, classes=Classes(tuple("abcdefgh")), splits={"train": ArraySource(images, labels)}
    )
    program = Program(config, many, jax.devices()[:1])
    with pytest.raises(UserError, match=r"Mutual-channel loss: each class owns .* its 15 .* for 8 classes"):
        refuse_method(METHODS["mutual_channel"], program)
    with pytest.raises(UserError, match=r"Two label levels with attention: .* this data set has no families"):
        refuse_method(METHODS["two_levels"], program)


def test_soft_mining_is_measured_by_the_embedding_that_it_trains(config):
    assert measured_embedding(config, METHODS["soft_mining"]) == "projection"
    assert measured_embedding(config, METHODS["mutual_channel"]) == "features"
    assert (
        measured_embedding(changed(config, {"objective.term_factor": 0.0}), METHODS["soft_mining"])
        == "features"
    )


def test_cdml_on_another_system_is_one_line():
    for name in ("mutual_channel", "soft_mining", "two_levels", "dropping"):
        own, both = METHODS[name], METHODS[f"cdml_{name}"]
        assert both == dataclasses.replace(CDML, title=both.title, structure=own.structure)
