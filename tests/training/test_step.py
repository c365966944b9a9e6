"""The compiled step against the objective written by hand, and over devices and microbatches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_run import epoch_counts

from cdml_jax import confusion, losses, sample_triplets
from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DensePairWeights
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.models.pixels import normalize_images
from cdml_jax.sampling.mining import MINERS
from cdml_jax.training.averages import ema_decay
from cdml_jax.training.program import Program
from cdml_jax.training.state import Costs


@pytest.fixture
def costs():
    rng = np.random.default_rng(5)
    pairs = rng.random((6, 6)) * (1 - np.eye(6))
    return Costs(
        class_weights=np.float32([0.5, 2.0, 1.0, 0.1, 1.4, 1.0]),
        pair_weights=DensePairWeights(np.float32(pairs / pairs.sum())),
        triplet_weight=np.float32(0.7),
        focal_gamma=np.float32(0.0),
        pair_beta=np.float32(0),
        miner=np.int32(0),
        watched_pairs=np.int32([[0, 1], [1, 0], [2, 3]] + [[4, 5]] * 7),
        terms={},
    )


def make_batch(rng, rows=16, padded=3):
    labels = np.sort(rng.integers(0, 6, rows)).astype(np.int32)
    mask = np.arange(rows) < rows - padded
    images = rng.integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8)
    order = rng.permutation(rows)
    return {"image": images[order], "label": labels[order], "mask": mask[order], "index": np.int32(order)}


def run_steps(config, dataset, costs, batches, devices=1):
    program = Program(config, dataset, devices=jax.devices()[:devices])
    state = program.initial_state(3)
    on_devices = mesh_lib.put_replicated(program.mesh, costs)
    for batch in batches:
        state = program.step(state, mesh_lib.put_batch(program.mesh, batch), on_devices)
    return program, state


@pytest.mark.parametrize("focal_gamma", [0.0, 1.5])
def test_one_step_is_the_joint_objective_by_hand(config, dataset, costs, focal_gamma):
    config = changed(
        config,
        {
            "model.name": "tiny_plain",
            "optimizer.warmup_share": 0.0,
            "optimizer.schedule": "cosine",
            "optimizer.clip_norm": 0.0,
            "optimizer.weight_decay": 0.0,
            "optimizer.momentum": 0.0,
        },
    )
    costs = costs._replace(focal_gamma=np.float32(focal_gamma))
    batch = make_batch(np.random.default_rng(1))
    program = Program(config, dataset, devices=jax.devices()[:1])
    state = program.initial_state(3)
    parameters = jax.tree.map(np.asarray, state.parameters)
    key = jax.random.fold_in(jax.random.fold_in(state.key, 1), 0)
    triplets = sample_triplets(
        jax.random.split(key, 1)[0],
        jnp.asarray(batch["label"]),
        costs.pair_weights,
        num_triplets=64,
        where=batch["mask"],
    )

    def objective(parameters):
        logits, embeddings = nnx.merge(program.graph, parameters, state.batch_statistics)(
            normalize_images(jnp.asarray(batch["image"])), train=True
        )
        probability = jax.nn.softmax(logits)[np.arange(16), batch["label"]]
        softmax = (
            -costs.class_weights[batch["label"]] * (1 - probability) ** focal_gamma * jnp.log(probability)
        )
        a, p, n = (embeddings[rows] for rows in triplets[:3])
        hinge = jnp.maximum(0, ((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + config.objective.margin)
        return (softmax * batch["mask"]).sum() / batch["mask"].sum() + 0.7 * hinge.mean()

    loss, gradients = jax.value_and_grad(objective)(parameters)
    expected = jax.tree.map(lambda p, g: p - config.optimizer.learning_rate * g, parameters, gradients)
    after = program.step(
        state, mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    )
    np.testing.assert_allclose(after.metrics["loss"].total, loss, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(after.parameters), jax.tree.leaves(expected)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_agree_over_a_few_steps(config, dataset, costs, devices):
    """Batch norm, gradients, counts and metrics are those of the global batch, masks uneven."""
    rng = np.random.default_rng(2)
    batches = [make_batch(rng, padded=k) for k in (3, 0, 5)]
    _, one = run_steps(config, dataset, costs, batches)
    program, many = run_steps(config, dataset, costs, batches, devices)
    np.testing.assert_allclose(
        epoch_counts(program, many).matrix,
        np.asarray(one.counts).sum(0),
        rtol=1e-4,
        atol=1e-5,
    )
    pairs = zip(
        jax.tree.leaves((one.parameters, one.batch_statistics, one.metrics)),
        jax.tree.leaves((many.parameters, many.batch_statistics, many.metrics)),
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def test_hard_counts_are_exact_on_any_number_of_devices(config, dataset, costs):
    config = changed(config, {"confusion.counts": "hard", "confusion.decay": 0.0})
    batches = [make_batch(np.random.default_rng(2))]
    program, one = run_steps(config, dataset, costs, batches)
    _, many = run_steps(config, dataset, costs, batches, 8)
    assert np.array_equal(epoch_counts(program, one).matrix, np.asarray(many.counts).sum(0))
    assert epoch_counts(program, one).matrix.sum() == batches[0]["mask"].sum()


def test_microbatches_divide_once_by_all_valid_triplets(config, dataset, costs):
    """Numerators and counts are summed over microbatches of unequal numbers of real rows."""
    config = changed(config, {"model.name": "tiny_plain", "accumulation": 2, "optimizer.clip_norm": 0.0})
    batch = make_batch(np.random.default_rng(4), padded=5)
    program = Program(config, dataset, devices=jax.devices()[:1])
    state = program.initial_state(3)
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, 1), 0), 2)
    parameters = jax.tree.map(np.asarray, state.parameters)

    def objective(parameters):
        network = nnx.merge(program.graph, parameters, state.batch_statistics)
        softmax = hinge = valid = 0.0
        for part in range(2):
            rows = {k: jnp.asarray(v[part::2]) for k, v in batch.items()}
            logits, embeddings = network(normalize_images(rows["image"]), train=True)
            softmax += losses.weighted_softmax_cross_entropy(
                logits, rows["label"], jnp.asarray(costs.class_weights), where=rows["mask"]
            ).sum()
            values, of_part = losses.confusion_triplet_loss(
                keys[part],
                embeddings,
                rows["label"],
                jnp.asarray(costs.pair_weights.matrix),
                num_triplets=32,
                margin=config.objective.margin,
                where=rows["mask"],
            )
            hinge, valid = hinge + values.sum(), valid + of_part.sum()
        return softmax / batch["mask"].sum() + 0.7 * hinge / valid

    loss, gradients = jax.value_and_grad(objective)(parameters)
    after = program.step(
        state, mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    )
    np.testing.assert_allclose(after.metrics["loss"].total, loss, rtol=1e-5)
    np.testing.assert_allclose(after.metrics["gradient_norm"].total, optax.tree.norm(gradients), rtol=1e-4)


def test_padded_rows_change_nothing(config, dataset, costs):
    batch = make_batch(np.random.default_rng(6), padded=4)
    other = {**batch, "label": np.where(batch["mask"], batch["label"], 0).astype(np.int32)}
    config = changed(config, {"model.name": "tiny_plain"})
    rubbish = {**other, "image": batch["image"].copy(), "label": other["label"].copy()}
    rubbish["image"][~batch["mask"]] = 255
    rubbish["label"][~batch["mask"]] = 5
    _, ours = run_steps(config, dataset, costs, [rubbish])
    _, theirs = run_steps(config, dataset, costs, [other])
    for a, b in zip(jax.tree.leaves(ours.parameters), jax.tree.leaves(theirs.parameters)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert np.array_equal(ours.counts, theirs.counts)


def test_soft_counts_are_the_predicted_probabilities(config, dataset, costs):
    config = changed(config, {"model.name": "tiny_plain"})
    batch = make_batch(np.random.default_rng(1))
    program = Program(config, dataset, devices=jax.devices()[:1])
    state = program.initial_state(3)
    logits, _ = program.model(state)(normalize_images(jnp.asarray(batch["image"])), train=True)
    expected = confusion.update(
        confusion.init(6, jnp.float32), batch["label"], jax.nn.softmax(logits), where=batch["mask"]
    )
    after = program.step(
        state, mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    )
    np.testing.assert_allclose(epoch_counts(program, after).matrix, expected, rtol=1e-5, atol=1e-6)


def test_batch_hard_takes_the_hardest_triplets(config, dataset, costs):
    batches = [make_batch(np.random.default_rng(1))]
    _, drawn = run_steps(config, dataset, costs, batches)
    hard_costs = costs._replace(miner=np.int32(list(MINERS).index("batch_hard")))
    _, hardest = run_steps(config, dataset, hard_costs, batches)
    assert float(hardest.metrics["triplet_loss"].total / hardest.metrics["triplet_loss"].number) > float(
        drawn.metrics["triplet_loss"].total / drawn.metrics["triplet_loss"].number
    )


def test_semi_hard_negatives_lie_beyond_the_positives(config, dataset, costs):
    batches = [make_batch(np.random.default_rng(1))]
    semi_costs = costs._replace(miner=np.int32(list(MINERS).index("semi_hard")))
    _, state = run_steps(config, dataset, semi_costs, batches)
    means = {
        name: float(state.metrics[name].total / state.metrics[name].number)
        for name in state.metrics
        if name != "watched_share"
    }
    hard_costs = costs._replace(miner=np.int32(list(MINERS).index("batch_hard")))
    _, hardest = run_steps(config, dataset, hard_costs, batches)
    hard_mean = float(hardest.metrics["triplet_loss"].total / hardest.metrics["triplet_loss"].number)
    assert 0 < means["triplet_loss"] < hard_mean
    assert means["valid_share"] == float(
        hardest.metrics["valid_share"].total / hardest.metrics["valid_share"].number
    )


def test_pair_costs_change_the_softmax_term_as_written(config, dataset, costs):
    batch = make_batch(np.random.default_rng(1))
    _, plain = run_steps(config, dataset, costs, [batch])
    program, weighted = run_steps(config, dataset, costs._replace(pair_beta=np.float32(2.0)), [batch])
    model = program.model(program.initial_state(3))
    logits, _ = model(normalize_images(jnp.asarray(batch["image"])), train=True)
    adjusted = losses.confusion_weighted_logits(
        logits, jnp.asarray(batch["label"]), jnp.asarray(costs.pair_weights.matrix), beta=2.0
    )
    expected = losses.masked_mean(
        losses.weighted_softmax_cross_entropy(
            adjusted, jnp.asarray(batch["label"]), jnp.asarray(costs.class_weights), where=batch["mask"]
        ),
        jnp.asarray(batch["mask"]),
    )
    measured = weighted.metrics["softmax_loss"]
    np.testing.assert_allclose(float(measured.total / measured.number), float(expected), rtol=1e-5)
    assert float(weighted.metrics["softmax_loss"].total) > float(plain.metrics["softmax_loss"].total)
    # Counts and accuracy are those of the plain logits.
    np.testing.assert_array_equal(
        epoch_counts(program, weighted).matrix,
        epoch_counts(program, plain).matrix,
    )


def test_moving_averages_follow_the_parameters(config, dataset, costs):
    """Their decay is min(d, (1 + t) / (10 + t)): 0.1, 2/11, 3/12, and then d."""
    config = changed(config, {"optimizer.ema_decay": 0.22})
    program = Program(config, dataset, devices=jax.devices()[:1])
    state = program.initial_state(3)
    on_devices = mesh_lib.put_replicated(program.mesh, costs)
    rng = np.random.default_rng(1)
    expected = jax.tree.map(np.float64, state.parameters)
    for decay in (0.1, 2 / 11, 0.22):
        state = program.step(state, mesh_lib.put_batch(program.mesh, make_batch(rng)), on_devices)
        expected = jax.tree.map(
            lambda a, p, d=decay: d * a + (1 - d) * np.float64(p), expected, state.parameters
        )
        for ours, theirs in zip(jax.tree.leaves(state.averages[0]), jax.tree.leaves(expected)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_moving_averages_of_a_short_run_forget_its_beginning():
    """Of 40 steps at d = 0.999, less than a millionth of the averages is the first parameters."""
    of_the_first = np.prod([float(ema_decay(step, 0.999)) for step in range(40)])
    assert of_the_first < 1e-6 < 0.999**40
    assert float(ema_decay(10**6, 0.999)) == np.float32(0.999)


def test_the_first_loss_that_is_not_finite_is_remembered(config, dataset, costs):
    good = make_batch(np.random.default_rng(1))
    bad = costs._replace(class_weights=np.full(6, np.nan, np.float32))
    program, state = run_steps(config, dataset, costs, [good, good])
    state = program.step(
        state, mesh_lib.put_batch(program.mesh, good), mesh_lib.put_replicated(program.mesh, bad)
    )
    assert int(state.first_bad_step) == 2


def test_bfloat16_activations_train(config, dataset, costs):
    config = changed(config, {"model.name": "small_resnet", "model.dtype": "bfloat16"})
    _, state = run_steps(config, dataset, costs, [make_batch(np.random.default_rng(1))])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.parameters))
    assert np.isfinite(float(state.metrics["loss"].total))
