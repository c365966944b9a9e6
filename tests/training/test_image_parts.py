"""The step of parts that look at images: by hand, whatever padding, microbatches and devices."""
# ruff: noqa: F811 (fixtures)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import nnx
from jax.scipy.ndimage import map_coordinates
from test_other_systems import ROWS, after_a_step, assert_close, batch, config  # noqa: F401
from test_other_systems import make_costs as costs_of

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS
from cdml_jax.models.parts.navigation import overlap, proposed_boxes
from cdml_jax.models.pixels import normalize_images
from cdml_jax.runs.beginning import refuse_method
from cdml_jax.training.program import Program

WEIGHTS = {"whole": 0.875, "crops": 1.125, "ranking": 0.75}  # of float32
METHODS_HERE = ("nts_net", "spatial_transformer", "object_crop")
make_costs = functools.partial(costs_of, weights=WEIGHTS)
a_step = functools.partial(after_a_step, weights=WEIGHTS)


def program_of(config, dataset, method, devices=1):
    return Program(config, dataset, jax.devices()[:devices], structure=METHODS[method].structure)


def on_grid(image, rows, columns):
    """An image (height, width, 3) between its pixels, by another function; 0 outside."""
    places = jnp.meshgrid(rows, columns, indexing="ij")
    channels = [map_coordinates(image[..., k], places, order=1, cval=0.0) for k in range(3)]
    return jnp.stack(channels, axis=-1)


@functools.partial(jax.jit, static_argnums=2)
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def boxed(image, box, size):
    top, left, bottom, right = box
    return on_grid(image, jnp.linspace(top, bottom - 1, size), jnp.linspace(left, right - 1, size))


def mapped(network, images):
    return network.front(images, 1, train=True)


def cross_entropy(logits, labels):
    return -jax.nn.log_softmax(logits)[jnp.arange(len(logits)), labels]


def scores_by_hand(navigator, x):
    def layer(conv, x, stride, around):
        dimensions = ("NHWC", "HWIO", "NHWC")
        found = jax.lax.conv_general_dilated(
            x, conv.kernel[...], (stride,) * 2, ((around,) * 2,) * 2, dimension_numbers=dimensions
        )
        return found + conv.bias[...]

    found = []
    for down, score, stride in zip(navigator.down, navigator.scores, (1, 2, 2)):
        x = jax.nn.relu(layer(down, x, stride, 1))
        found.append(layer(score, x, 1, 0).reshape(len(x), -1))
    return jnp.concatenate(found, axis=1)


def chosen(scores, boxes):
    """Six boxes of each image, from a list that shrinks."""
    every, shared = [], np.asarray(overlap(jnp.asarray(boxes)[:, None], jnp.asarray(boxes)[None]))
    for row in np.asarray(scores):
        left, best = list(np.argsort(-row)), []
        while len(best) < 6 and left:
            best.append(left[0])
            left = [box for box in left if shared[best[-1], box] < 0.25]
        every.append(best)
    return np.array(every)


def nts_net_by_hand(program, before, images, labels):
    boxes = proposed_boxes((16, 16), (4, 4)).astype(np.float64)
    network = nnx.merge(program.graph, before, {})
    best = chosen(scores_by_hand(network.part.navigator, mapped(network, images)), boxes)
    crops = boxed(jnp.repeat(images, 6, axis=0), boxes[best.ravel()], 8)

    def losses(parameters):
        network = nnx.merge(program.graph, parameters, {})
        last = mapped(network, images)
        whole, found = last.mean((1, 2)), mapped(network, crops).mean((1, 2)).reshape(ROWS, 6, -1)
        part = network.part
        scores = scores_by_hand(part.navigator, jax.lax.stop_gradient(last))
        scores = scores[np.arange(ROWS)[:, None], best]
        errors = jnp.stack([cross_entropy(part.crop(found[:, k]), labels) for k in range(6)], axis=1)
        ranking = sum(
            jnp.where(errors[:, i] > errors[:, s], jax.nn.relu(1 - (scores[:, s] - scores[:, i])), 0)
            for i in range(6)
            for s in range(6)
        )
        features = jnp.concatenate([*(found[:, k] for k in range(4)), whole], axis=1)
        terms = {
            "whole": cross_entropy(part.whole(whole), labels),
            "crops": errors.mean(1),
            "ranking": ranking,
        }
        return network.heads(features).logits, terms

    return losses


def spatial_transformer_by_hand(program, before, images, labels):
    def losses(parameters):
        network = nnx.merge(program.graph, parameters, {})
        part = network.part.localization
        x = jax.nn.relu(
            mapped(part.trunk, images) @ part.reduction.kernel[...][0, 0] + part.reduction.bias[...]
        )
        # The map of 4 x 4 as one of 7 x 7: each position is the mean of those that it overlaps.
        windows = [(k * 4 // 7, -(-(k + 1) * 4 // 7)) for k in range(7)]
        x = jnp.stack([x[:, a:b].mean(1) for a, b in windows], 1)
        x = jnp.stack([x[:, :, a:b].mean(2) for a, b in windows], 2)
        places = part.last(jax.nn.relu(part.dense(x.reshape(ROWS, -1)))).reshape(ROWS, 2, 2)
        grid = jnp.linspace(-1, 1, 16)
        lines = (0.5 * grid + places[..., None] + 1) * 7.5
        lines = lines.reshape(2 * ROWS, 2, 16)
        crops = jax.vmap(on_grid)(jnp.repeat(images, 2, axis=0), lines[:, 0], lines[:, 1])
        features = mapped(network, crops).mean((1, 2)).reshape(ROWS, -1)
        return network.heads(features).logits, {}

    return losses


def object_crop_by_hand(program, before, images, labels):
    network = nnx.merge(program.graph, before, {})
    boxes = []
    for activation in np.asarray(mapped(network, images).sum(3)):
        parts, _ = scipy.ndimage.label(activation > activation.mean(), np.ones((3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        rows, columns = np.nonzero(parts == 1 + sizes.argmax())
        boxes.append([4 * rows.min(), 4 * columns.min(), 4 * rows.max() + 4, 4 * columns.max() + 4])
    crops = boxed(images, np.array(boxes), 16)

    def losses(parameters):
        network = nnx.merge(program.graph, parameters, {})
        one, other = (network.heads(mapped(network, x).mean((1, 2))).logits for x in (images, crops))
        return (one + other) / 2, {}

    return losses


BY_HAND = {
    "nts_net": nts_net_by_hand,
    "spatial_transformer": spatial_transformer_by_hand,
    "object_crop": object_crop_by_hand,
}


@pytest.mark.parametrize("method", METHODS_HERE)
def test_a_step_of_microbatches_is_the_whole_by_hand(method, config, dataset, batch, float64):
    wide = changed(config, {"model.dtype": "float64", "optimizer.head_multiplier": 3.0, "accumulation": 2})
    program = program_of(wide, dataset, method)
    before = jax.tree.map(np.asarray, program.initial_state(3).parameters)
    images, labels = normalize_images(jnp.asarray(batch["image"]), jnp.float64), batch["label"]
    real = batch["mask"]
    class_weights = make_costs(program.structure).class_weights[labels]
    losses = BY_HAND[method](program, before, images, labels)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def by_hand(parameters):
        def mean(values):
            return (real * values).sum() / real.sum()

        logits, terms = losses(parameters)
        means = {name: mean(values) for name, values in terms.items()}
        softmax = mean(class_weights * cross_entropy(logits, labels))
        return softmax + sum(WEIGHTS[name] * value for name, value in means.items()), means

    (loss, terms), gradients = by_hand(before)
    found = a_step(program, batch)
    np.testing.assert_allclose(found.metrics["loss"].total, loss, rtol=1e-7)
    for name, value in terms.items():
        logged = found.metrics[f"{name}_loss"]
        np.testing.assert_allclose(logged.total / logged.number, value, rtol=1e-6)
    rate = wide.optimizer.learning_rate

    def moved(path, p, g):
        names = [str(key.key) for key in path]
        factor = 3.0 if names[0] in ("heads", "part") else 1.0
        return p - rate * factor * (1e-4 if "localization" in names else 1) * g

    expected = jax.tree_util.tree_map_with_path(moved, before, gradients)
    assert_close(found.parameters, expected, rtol=1e-9, atol=1e-10)
    if method == "spatial_transformer":  # slower by 1e-4 than anything else, and not still
        first, last = before["part"]["localization"]["last"], gradients["part"]["localization"]["last"]
        assert np.abs(last["bias"]).min() > 1e-4
        assert not np.array_equal(found.parameters["part"]["localization"]["last"]["bias"], first["bias"])
    # Garbage in rows that are padded, and one trace.
    rubbish = {name: values.copy() for name, values in batch.items()}
    rubbish["image"][~real] = 255 * (np.arange(16) % 3 == 0)[:, None].astype(np.uint8)
    rubbish["label"][~real] = 5
    again = a_step(program, rubbish)
    assert_close(again.parameters, found.parameters, rtol=1e-12, atol=1e-12)
    assert program.traces["step"] == 1
    # The same on other devices.
    whole = changed(wide, {"accumulation": 1})
    for number in (1, 2, 4):
        many = a_step(program_of(whole, dataset, method, number), batch)
        assert_close(many.parameters, found.parameters, rtol=1e-9, atol=1e-10)


def test_gradients_stop_where_the_method_stops_them(config, dataset, batch):
    program = program_of(config, dataset, "nts_net")
    parameters = program.initial_state(3).parameters
    images = normalize_images(jnp.asarray(batch["image"]))
    ranking, crops = (
        next(term for term in program.structure.terms if term.name == name) for name in ("ranking", "crops")
    )

    @functools.partial(jax.jit, static_argnums=1)
    def gradients(parameters, term):
        def loss(parameters):
            network = nnx.merge(program.graph, parameters, {})
            outputs, said = network.observe_images(images, train=True)
            prepared = jnp.asarray(batch["mask"])
            needed = {name: said[name] for name in term.needs}
            return term(*outputs, jnp.asarray(batch["label"]), prepared, **needed)

        return jax.grad(loss)(parameters)

    def moves(tree):
        return any(np.any(leaf) for leaf in jax.tree.leaves(tree))

    by_ranking, by_crops = (gradients(parameters, term) for term in (ranking, crops))
    assert {name for name in by_ranking if moves(by_ranking[name])} == {"part"}
    assert {name for name in by_ranking["part"] if moves(by_ranking["part"][name])} == {"navigator"}
    assert {name for name in by_crops if moves(by_crops[name])} == {"stem", "blocks", "part"}
    assert {name for name in by_crops["part"] if moves(by_crops["part"][name])} == {"crop"}


@pytest.mark.parametrize("method", METHODS_HERE)
def test_it_begins_as_the_baseline_and_says_what_it_cannot_have(method, config, dataset):
    plain, program = (program_of(config, dataset, name) for name in ("baseline", method))
    theirs, ours = (p.initial_state(5).parameters for p in (plain, program))
    shared = ["stem", "blocks", *(["heads"] if method == "object_crop" else [])]
    assert_close([ours[name] for name in shared], [theirs[name] for name in shared], rtol=0)
    assert ("part" in ours) == (method != "object_crop")
    if method == "spatial_transformer":
        trunk = ours["part"]["localization"]["trunk"]
        assert_close(trunk, {name: theirs[name] for name in ("stem", "blocks")}, rtol=0)
    refuse_method(METHODS[method], program)
    half = program_of(changed(config, {"model.dtype": "bfloat16"}), dataset, method)
    arguments = half.abstract_state(), half.abstract_batch(), half.abstract_costs()
    rows = ROWS * {"nts_net": 6, "spatial_transformer": 2, "object_crop": 1}[method]
    side = 2 if method == "nts_net" else 4
    assert f"bf16[{rows},{side},{side},15]" in str(half.step.trace(*arguments).jaxpr)
    found = jax.eval_shape(half.step, *arguments)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.parameters)} == {jnp.dtype("float32")}
    program.cut = 1
    with pytest.raises(UserError, match="leaves no images, which this method crops; set model"):
        refuse_method(METHODS[method], program)
