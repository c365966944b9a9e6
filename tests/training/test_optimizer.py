"""Schedule and decay as configured."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cdml_jax.errors import UserError
from cdml_jax.training.optimizer import idle_freeze, make_optimizer, make_schedule


def updates_of(settings, parameters, gradients, steps=100):
    optimizer = make_optimizer(settings, make_schedule(settings, steps), steps_per_epoch=10)
    return optimizer.update(gradients, optimizer.init(parameters), parameters)[0]


@pytest.fixture
def settings(config):
    return replace(config.optimizer, warmup_share=0.0, clip_norm=0.0, learning_rate=0.1, weight_decay=0.5)


PARAMETERS = {"body": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 2.0)}}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(settings, name):
    settings = replace(settings, name=name)
    zeros = jax.tree.map(jnp.zeros_like, PARAMETERS)
    updates = updates_of(settings, PARAMETERS, zeros)["body"]
    assert (np.asarray(updates["bias"]) == 0).all()
    assert (np.asarray(updates["kernel"]) < 0).all()


def test_gradients_are_clipped_by_their_global_norm(settings):
    settings = replace(settings, clip_norm=1.0, weight_decay=0.0, momentum=0.0)
    gradients = jax.tree.map(lambda leaf: leaf * 100, PARAMETERS)
    updates = updates_of(settings, PARAMETERS, gradients)
    norm = np.sqrt(sum((np.asarray(u) ** 2).sum() for u in jax.tree.leaves(updates)))
    assert norm == pytest.approx(0.1, rel=1e-5)


def test_what_is_clipped_by_itself_does_not_shorten_the_others(settings):
    settings = replace(settings, clip_norm=1.0, weight_decay=0.0, momentum=0.0, head_multiplier=1.0)
    ones = jnp.ones(4)
    parameters = {"body": ones, "part": {"navigator": {"a": ones, "b": ones}, "navigators": ones}}
    gradients = {
        "body": 0.2 * ones,
        "part": {"navigator": {"a": 30 * ones, "b": 40 * ones}, "navigators": 0 * ones},
    }
    optimizer = make_optimizer(
        settings, make_schedule(settings, 100), steps_per_epoch=10, apart=("part.navigator",)
    )
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    np.testing.assert_allclose(updates["body"], -0.1 * 0.2, rtol=1e-5)
    np.testing.assert_allclose(updates["part"]["navigator"]["a"], -0.1 * 0.3, rtol=1e-5)
    np.testing.assert_allclose(updates["part"]["navigator"]["b"], -0.1 * 0.4, rtol=1e-5)
    gradients["part"]["navigators"] = 10 * ones  # another name, which counts with the others
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    np.testing.assert_allclose(updates["body"], -0.1 * 0.2 / np.hypot(0.4, 20), rtol=1e-5)
    np.testing.assert_allclose(updates["part"]["navigator"]["a"], -0.1 * 0.3, rtol=1e-5)


def test_heads_learn_at_their_multiple(settings):
    settings = replace(settings, head_multiplier=10.0, weight_decay=0.0, momentum=0.0)
    parameters = {"body": {"kernel": jnp.ones((2, 2))}, "heads": {"classifier": {"kernel": jnp.ones((2, 2))}}}
    updates = updates_of(settings, parameters, jax.tree.map(jnp.ones_like, parameters))
    np.testing.assert_allclose(updates["heads"]["classifier"]["kernel"], updates["body"]["kernel"] * 10)


def test_schedule_warms_up_then_falls_to_zero(settings):
    settings = replace(settings, warmup_share=0.1)
    schedule = make_schedule(settings, 200)
    assert [float(schedule(step)) for step in (0, 10, 20)] == pytest.approx([0.0, 0.05, 0.1])
    assert float(schedule(110)) == pytest.approx(0.05, rel=1e-5)
    assert float(schedule(200)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("name", "lion", ("'lion'", "sgd, adamw")),
        ("schedule", "linear", ("'linear'", "cosine, constant")),
        ("freeze", ("stem", 3), ("3 is not a name",)),
    ],
)
def test_what_cannot_work_is_refused_by_key(settings, key, value, parts):
    with pytest.raises(UserError, match=rf"^optimizer\.{key}: ") as refused:
        replace(settings, **{key: value})
    assert all(part in str(refused.value) for part in parts)


def test_a_freeze_that_does_nothing_is_said(settings):
    assert idle_freeze(settings) == ""
    assert idle_freeze(replace(settings, freeze=("stem",), freeze_epochs=-1)) == ""
    said = idle_freeze(replace(settings, freeze=("stem",)))
    assert said.startswith("optimizer.freeze_epochs: 0 trains stem (optimizer.freeze) from the first step")
    assert "2, but optimizer.freeze names nothing" in idle_freeze(replace(settings, freeze_epochs=2))


@pytest.mark.parametrize(("share", "steps"), [(1.0, 10), (0.99, 10), (1.0, 1)])
def test_a_warm_up_that_leaves_no_step_to_decay_in_is_refused(settings, share, steps):
    settings = replace(settings, warmup_share=share)
    with pytest.raises(UserError, match=rf"^optimizer\.warmup_share: {share} leaves no step to decay in"):
        make_schedule(settings, steps)
    constant = make_schedule(replace(settings, schedule="constant"), steps)
    assert float(constant(steps)) == pytest.approx(0.1)
    decays = make_schedule(replace(settings, warmup_share=0.9), 10)
    assert [float(decays(step)) for step in (9, 10)] == pytest.approx([0.1, 0.0])


def trained(settings, parameters, steps):
    """Parameters after some steps of gradients of one."""
    optimizer = make_optimizer(settings, make_schedule(settings, 100), steps_per_epoch=10)
    state = optimizer.init(parameters)
    for _ in range(steps):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return parameters


LAYERS = {
    "stem": {"kernel": jnp.ones((2, 2))},
    "blocks": {1: {"kernel": jnp.ones((2, 2))}, 10: {"kernel": jnp.ones((2, 2))}},
    "heads": {"classifier": {"kernel": jnp.ones((2, 2))}},
}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_frozen_layers_rest_then_move(settings, name):
    settings = replace(settings, name=name, freeze=("stem", "blocks.1"), freeze_epochs=1)
    before, after = trained(settings, LAYERS, 10), trained(settings, LAYERS, 11)
    frozen = lambda tree: np.stack([tree["stem"]["kernel"], tree["blocks"][1]["kernel"]])  # noqa: E731
    assert (frozen(before) == 1).all()
    assert (frozen(after) != 1).all()
    assert (
        np.asarray(before["blocks"][10]["kernel"]) != 1
    ).all()  # "blocks.1" is no beginning of "blocks.10"


def test_layers_can_be_frozen_for_ever(settings):
    settings = replace(settings, freeze=("stem",), freeze_epochs=-1)
    assert (np.asarray(trained(settings, LAYERS, 30)["stem"]["kernel"]) == 1).all()


def test_a_frozen_name_that_is_nowhere_is_refused(settings):
    settings = replace(settings, freeze=("stam",), freeze_epochs=1)
    with pytest.raises(UserError, match=r"optimizer\.freeze.*'stam'.*blocks, heads, stem"):
        trained(settings, LAYERS, 1)


def test_frozen_gradients_do_not_count_in_the_norm(settings):
    settings = replace(
        settings, freeze=("stem",), freeze_epochs=-1, clip_norm=1.0, weight_decay=0.0, momentum=0.0
    )
    parameters = {"stem": {"kernel": jnp.ones((2, 2))}, "heads": {"kernel": jnp.ones((2, 2))}}
    gradients = {"stem": {"kernel": jnp.full((2, 2), 1e3)}, "heads": {"kernel": jnp.full((2, 2), 0.1)}}
    updates = updates_of(settings, parameters, gradients)
    np.testing.assert_allclose(updates["heads"]["kernel"], -0.01, rtol=1e-5)


def test_a_layer_decay_needs_blocks(settings):
    settings = replace(settings, layer_decay=0.7)
    with pytest.raises(UserError, match="layer_decay"):
        updates_of(settings, PARAMETERS, PARAMETERS)
