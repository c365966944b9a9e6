"""What crosses devices: the step's collectives against a written budget, and the reading of XLA's text.

The budget, for B rows, embeddings of D, P bytes of parameters, on N devices along "data"; docs/clusters.md
says the same in words:

| what | collective | times a step | bytes of its result |
|---|---|---|---|
| labels, -1 for padding | all-gather | 1 | 4 B |
| embeddings | all-gather | 1 | 4 B D |
| their gradients | reduce-scatter | 1 | 4 B D / N |
| gradients of parameters, sums for the loss and the log | all-reduce | merged by XLA | P and some scalars |
| means and squares of a batch norm's F features; their gradients | all-reduce | 2 a layer | 8 F each |
| counts | none; one all-reduce of 4 C² an epoch | | |
| soft mining: embeddings; attention | all-gather | 1 each | 4 B D; 4 B |
| dropping: places, changes; probabilities | all-gather | 1 each | 4 B, 4 B; 2 B C |
| two levels: the recurrent cell is used twice | with the gradients | | as many as the cell has |
"""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import Classes
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed.collectives import Collective, collectives, summary
from cdml_jax.methods import METHODS
from cdml_jax.methods.mutual_channel import MutualChannel
from cdml_jax.methods.soft_mining import SoftMining
from cdml_jax.methods.structure import Dropping, Structure
from cdml_jax.methods.two_levels import FamilyCrossEntropy
from cdml_jax.runs.memory import bytes_per_device
from cdml_jax.training.epoch import plan_of_epoch, statistics_of
from cdml_jax.training.program import Program
from cdml_jax.training.storage.parts import sum_of_places

CLASSES = 192  # an eighth of 4 C² bytes is more than any other array has
EMBEDDING = 8
NORM_FEATURES = 16  # of the only batch norm
SCALARS = 128  # bytes: sums for the loss, the log and the watched pairs


@pytest.fixture(scope="module")
def many(dataset):
    names = tuple(f"class {k}" for k in range(CLASSES))
    return dataclasses.replace(dataset, classes=Classes(names))


class MutualPairs(MutualChannel):
    """Of fewer classes than the map of the tiny network has halves of its channels."""

    def __call__(self, logits, embeddings, labels, prepared, **needed):
        return super().__call__(logits[:, :7], embeddings, labels % 7, prepared, **needed)


def compiled_step(config, dataset, devices=8, **options):
    """A program and the collectives of its step."""
    program = Program(config, dataset, devices=jax.devices()[:devices], **options)
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    quick = {"xla_backend_optimization_level": 0}  # of the machine code, which is not run
    return program, collectives(program.step.lower(*arguments).compile(quick).as_text())


def of_kind(found, kind):
    return [one for one in found if one.kind == kind]


def parameter_bytes(program):
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(program.abstract_state().parameters)
    )


def assert_nothing_of_classes_by_classes(found):
    for one in found:
        assert max(map(shape_bytes, one.shapes)) < 4 * CLASSES**2 / 8, one
        assert all(shape.count(str(CLASSES)) < 2 for shape in one.shapes), one


def shape_bytes(shape):
    sizes = shape.partition("[")[2].rstrip("]").split(",")
    return 4 * math.prod(int(size) for size in sizes if size)


def test_the_step_keeps_to_its_budget(config, many):
    program, found = compiled_step(config, many)
    rows, devices = config.batch_size, 8
    assert {one.kind for one in found} == {"all-gather", "reduce-scatter", "all-reduce"}
    assert all(one.devices == devices and one.times == 1 for one in found)
    gathers = sorted(one.bytes for one in of_kind(found, "all-gather"))
    assert gathers == [4 * rows, 4 * rows * EMBEDDING]
    assert [one.bytes for one in of_kind(found, "reduce-scatter")] == [4 * rows * EMBEDDING // devices]
    reduced = of_kind(found, "all-reduce")
    norm = 2 * 2 * 4 * NORM_FEATURES
    assert len(reduced) <= 2 + 2
    least = parameter_bytes(program)
    assert least <= sum(one.bytes for one in reduced) <= least + norm + SCALARS
    assert_nothing_of_classes_by_classes(found)


def test_the_other_systems_keep_to_theirs(config, many):
    """Mutual channels and families add a scalar each to the sums for the loss."""
    families = tuple(k // 4 for k in range(CLASSES)), tuple(map(str, range(CLASSES // 4)))
    many = dataclasses.replace(many, classes=Classes(many.classes.names, *families))
    config = changed(config, {"model.name": "tiny_map"})
    terms = (MutualPairs(), SoftMining(), FamilyCrossEntropy())
    structure = Structure("all", terms=terms, part="two_levels", dropping=Dropping())
    program, found = compiled_step(config, many, structure=structure)
    rows = config.batch_size
    assert {one.kind for one in found} == {"all-gather", "reduce-scatter", "all-reduce"}
    assert all(one.devices == 8 and one.times == 1 for one in found)
    gathers = sorted(one.bytes for one in of_kind(found, "all-gather"))
    each = [4 * rows] * 4 + [4 * rows * EMBEDDING] * 2 + [2 * rows * CLASSES]
    assert gathers == sorted(each)
    assert [one.bytes for one in of_kind(found, "reduce-scatter")] == [4 * rows * EMBEDDING // 8]
    cell = program.abstract_state().parameters["part"]["cell"]
    twice = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(cell))
    reduced = sum(one.bytes for one in of_kind(found, "all-reduce"))
    least = parameter_bytes(program)
    assert least <= reduced <= least + twice + SCALARS


def test_parameters_split_over_data_are_gathered_once(config, many):
    """XLA for CPU returns gradients by all-reduce and a slice, for GPU and TPU by reduce-scatter."""
    config = changed(config, {"mesh.shard_parameters_from": 256})
    program, found = compiled_step(config, many)
    whole = [
        math.prod(leaf.shape) * 4
        for leaf, sharding in zip(
            jax.tree.leaves(program.abstract_state().parameters),
            jax.tree.leaves(program.shardings.parameters),
        )
        if "data" in sharding.spec
    ]
    assert len(whole) >= 3
    rows = config.batch_size
    gathers = sorted(one.bytes for one in of_kind(found, "all-gather"))
    assert gathers == sorted([4 * rows, 4 * rows * EMBEDDING, *whole])
    returned = sum(one.bytes for one in of_kind(found, "all-reduce"))
    scattered = sum(one.bytes for one in of_kind(found, "reduce-scatter")) * 8
    norm = 2 * 2 * 4 * NORM_FEATURES
    assert returned + scattered <= parameter_bytes(program) + norm + 4 * rows * EMBEDDING + 2 * SCALARS
    assert_nothing_of_classes_by_classes(found)


def test_logits_are_never_gathered_over_model(config, many):
    config = changed(config, {"mesh.data": 4, "mesh.model": 2})
    program, found = compiled_step(config, many)
    rows = config.batch_size
    over_data = [one for one in of_kind(found, "all-gather") if one.devices == 4]
    assert sorted(one.bytes for one in over_data) == [4 * rows, 4 * rows * EMBEDDING]
    # Over "model" each row's maxima, sums and place of its maximum, and the features' gradients.
    over_model = [one for one in found if one.devices == 2]
    features = 4 * (rows // 4) * NORM_FEATURES
    each_row = 4 * rows // 4
    assert sum(one.bytes for one in over_model) <= features + 16 * each_row + SCALARS
    assert_nothing_of_classes_by_classes(found)
    classifier = program.abstract_state().parameters["heads"]["classifier"]
    assert bytes_per_device(classifier["kernel"]) == 4 * NORM_FEATURES * CLASSES // 2


def test_each_device_compares_its_own_anchors_alone(config, many):
    """With all rows: products of embeddings do not grow by the square of the devices."""
    config = changed(config, {"batch_size": 40, "objective.triplets_per_image": 1})
    program = Program(config, many)
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    text = program.step.lower(*arguments).as_text()
    products = set(re.findall(r"dot_general.*-> tensor<(\w+)xf32>", text))
    assert "5x40" in products
    assert "40x40" not in products


def test_counts_are_summed_by_one_reduction(config, many):
    program = Program(config, many)
    lowered = sum_of_places.lower(program.abstract_state().counts, mesh=program.mesh)
    assert summary(collectives(lowered.compile().as_text())) == {
        "all-reduce": {"number": 1, "bytes": 4 * CLASSES**2}
    }


def test_evaluation_needs_no_collective(config, many):
    program = Program(config, many)
    state = program.abstract_state()
    counts, _ = program.abstract_evaluation()
    lowered = program._evaluate[False, False].lower(counts, *state.in_use, program.abstract_batch())
    assert collectives(lowered.compile().as_text()) == []


def test_bytes_of_a_device_do_not_grow_with_the_devices(config, many):
    """With as many rows on each device: but for labels and embeddings, which every device sees whole."""
    reduced, gathered = {}, {}
    for devices in (2, 4, 8):
        config = changed(config, {"batch_size": 2 * devices})
        _, found = compiled_step(config, many, devices)
        ring = 2 * (devices - 1) / devices
        reduced[devices] = sum(one.sent for one in of_kind(found, "all-reduce")) / ring
        gathered[devices] = sum(one.sent for one in found if one.kind != "all-reduce")
    assert reduced[2] == reduced[4] == reduced[8]
    for devices, sent in gathered.items():
        assert sent == 2 * (devices - 1) * (4 + 2 * 4 * EMBEDDING)


HLO = """\
HloModule jit_f, num_partitions=4

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = f32[8]{0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add, metadata={op_name="in/loop"}
}

%cond (p: (s32[], f32[8])) -> pred[] {
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

ENTRY %main (p: f32[8]) -> f32[64] {
  %w = (s32[], f32[8]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %s = (bf16[4,2]{1,0}, bf16[16,2]{1,0}) all-gather-start(%p), replica_groups=mesh['x'=1,'y'=4] {'y'}
  %d = bf16[16,2]{1,0} all-gather-done(%s)
  %c = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}
  %t2 = (pred[2]{0}, /*index=1*/pred[2]{0}) all-to-all(%a, %b), replica_groups=[2,2]<=[4]
  %alone = f32[9]{0} all-reduce(%x), replica_groups={{0},{1},{2},{3}}, to_apply=%add
  %all = (f32[2]{0}, s64[]) all-reduce-start(%x, %y), replica_groups={}, to_apply=%add
  ROOT %rs = f8e4m3fn[5]{0} reduce-scatter(%x), replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
}
"""


def test_xla_text_is_read():
    assert collectives(HLO) == [
        Collective("all-reduce", ("f32[8]",), 32, 2, 3, "in/loop", span=2),
        Collective("all-gather", ("bf16[16,2]",), 64, 4, 1, "", True, span=4),
        Collective("collective-permute", ("f32[3]",), 12, 2, 1, "", True),
        Collective("all-to-all", ("pred[2]", "pred[2]"), 4, 2, 1, "", span=2),
        Collective("all-reduce", ("f32[2]", "s64[]"), 16, 4, 1, "", True, span=4),
        Collective("reduce-scatter", ("f8e4m3fn[5]",), 5, 4, 1, "", span=4),
    ]


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{4,5},{0,1},{2,3},{6,7}}", [4, 5]),
        ("[2,4]<=[8]", [0, 1, 2, 3]),
        ("[4,2]<=[2,4]T(1,0)", [0, 4]),
        ("[2,4]<=[2,2,2]T(1,0,2)", [0, 1, 4, 5]),
        ("mesh['a'=2,'b'=4] {'b'}", [0, 1, 2, 3]),
        ("mesh['a'=2,'b'=4,'c'=1] {'a'}", [0, 4]),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", [0, 1, 4, 5]),
        ("mesh['a'=8] {'a':(1)4}", [0, 2, 4, 6]),
        ("mesh['a'=8] {'a':(4)2}", [0, 1]),
        ("{}", list(range(8))),
    ],
)
def test_groups_are_read_as_xla_writes_them(groups, first):
    """By hand, from XLA's definitions: an array of places, its axes exchanged, cut into rows."""
    text = f"%m, replica_groups={groups}, to_apply=%add"
    found = collectives(
        f"HloModule f, num_partitions=8\n\nENTRY %m () -> f32[2] {{\n  %r = f32[2] all-reduce({text}\n}}"
    )
    assert [(one.devices, one.span) for one in found] == [(len(first), first[-1] - first[0] + 1)]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", 150),
        ("all-gather", 75),
        ("reduce-scatter", 300),
        ("all-to-all", 75),
        ("collective-permute", 100),
    ],
)
def test_bytes_sent_in_a_ring(kind, sent):
    assert Collective(kind, ("s8[100]",), 100, 4, 1, "").sent == sent
    assert Collective(kind, ("s8[100]",), 100, 4, 3, "").sent == 3 * sent


def test_the_abstract_arguments_are_those_of_a_step(config, dataset):
    """What is compiled and accounted for is what a run passes."""
    program = Program(config, dataset)
    counts = DenseConfusion(np.ones((6, 6), np.float32))
    labels = dataset.splits["train"].labels
    statistics = statistics_of(counts, config.confusion)
    facts = program.facts(statistics, counts)
    costs, order = plan_of_epoch(METHODS["cdml"], config, labels, facts, seed=0, epoch=2)
    batch = next(program.feed("train").training(order, seed=0, epoch=2))
    passed = mesh_lib.put_batch(program.mesh, batch), mesh_lib.put_replicated(program.mesh, costs)
    expected = program.abstract_batch(), program.abstract_costs()
    assert jax.tree.structure(passed) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(passed), jax.tree.leaves(expected)):
        assert (ours.shape, ours.dtype, ours.sharding) == (theirs.shape, theirs.dtype, theirs.sharding)
