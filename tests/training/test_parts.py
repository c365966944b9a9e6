"""The step of a network with bilinear pooling, from its beginning to what is exported of it."""
# ruff: noqa: F811 (fixtures)

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from test_other_systems import after_a_step, assert_close, batch, config, make_costs  # noqa: F401

from cdml_jax.configuration.settings import changed
from cdml_jax.inference.export import export
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.methods import METHODS
from cdml_jax.models.pixels import normalize_images
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.training.program import Program


def program_of(config, dataset, method="bilinear"):
    return Program(config, dataset, jax.devices()[:1], structure=METHODS[method].structure)


def test_a_step_of_microbatches_is_the_whole_by_hand_at_rates_of_its_own(
    config,
    dataset,
    batch,
    float64,
):
    wide = changed(config, {"model.dtype": "float64", "optimizer.head_multiplier": 3.0, "accumulation": 2})
    program = program_of(wide, dataset)
    state = program.initial_state(3)
    before, real = jax.tree.map(np.asarray, state.parameters), batch["mask"]
    class_weights = make_costs(program.structure).class_weights[batch["label"]]

    def by_hand(parameters):
        network = nnx.merge(program.graph, parameters, {})
        x = network.front(normalize_images(jnp.asarray(batch["image"]), jnp.float64), 1, train=True)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        products = jnp.stack([image.T @ image for image in x]) / x.shape[1]
        root = (jnp.sqrt(jax.nn.relu(products) + 1e-5) - np.sqrt(1e-5)).reshape(len(x), -1)
        features = root / jnp.linalg.norm(root, axis=1, keepdims=True)
        logits = features @ parameters["heads"]["classifier"]["kernel"]
        logits += parameters["heads"]["classifier"]["bias"]
        losses = -jax.nn.log_softmax(logits)[np.arange(len(x)), batch["label"]]
        return (real * class_weights * losses).sum() / real.sum()

    loss, gradients = jax.jit(jax.value_and_grad(by_hand))(before)
    found = after_a_step(program, batch)
    np.testing.assert_allclose(found.metrics["loss"].total, loss, rtol=1e-7)
    rates = {name: 60.0 if name == "heads" else 1.0 for name in before}
    for name, rate in rates.items():
        expected = jax.tree.map(
            lambda p, g, rate=rate: p - rate * wide.optimizer.learning_rate * g,
            before[name],
            gradients[name],
        )
        assert_close(found.parameters[name], expected, rtol=1e-9, atol=1e-10)
    after_a_step(program, batch)
    assert program.traces["step"] == 1


def test_what_is_exported_says_what_the_network_says(config, dataset, tmp_path):
    program = program_of(config, dataset, "compact_bilinear")
    state = jax.tree.map(np.asarray, program.initial_state(3).in_use)
    counts = program.storage.nothing()
    run = TrainedRun(
        config, "colours", dataset.classes, program.graph, Weights(*state, counts, 1), jax.devices()[:1]
    )
    export(run, tmp_path / "mine.jax")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    outputs = jax.export.deserialize((tmp_path / "mine.jax").read_bytes()).call(images)
    logits, embeddings = run(images)
    np.testing.assert_allclose(jax.tree.leaves(outputs)[0], logits, rtol=1e-5, atol=1e-6)
    assert embeddings.shape == (3, 8)
