"""Slices by their names, times by published numbers, the largest batch by few compilations."""

import numpy as np
import pytest

from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.distributed.collectives import Collective
from cdml_jax.errors import UserError
from cdml_jax.runs.compile.chips import CHIPS
from cdml_jax.runs.compile.compiled import Compiled, DoesNotFit
from cdml_jax.runs.compile.cycles import Cycles
from cdml_jax.runs.compile.labels import settled, sizes_of
from cdml_jax.runs.compile.largest import largest_batch
from cdml_jax.runs.compile.plan import planned
from cdml_jax.runs.compile.prediction import predicted, seconds_of
from cdml_jax.runs.compile.slices import parse


def compiled(flops=0.0, moved=0, cycles=0, crossing=(), **memory):
    return Compiled(memory, flops, 2 * moved, Cycles(cycles, {}, 0, moved, 0), tuple(crossing), 1.0)


@pytest.mark.parametrize(
    ("text", "name", "hosts", "links", "hops"),
    [
        ("v5e:4x4", "v5e:4x4", 4, 2, 6),
        ("v5e:16x16", "v5e:16x16", 64, 4, 16),  # whole: its ends are joined
        ("v5litepod-8", "v5e:2x4", 2, 2, 4),
        ("tpu-v5-lite-podslice:2x2", "v5e:2x2", 1, 2, 2),
        ("v4:2x2x1", "v4:2x2x1", 1, 2, 2),
        ("v4-32", "v4:2x2x4", 4, 3, 5),
        ("v5p:4x4x4", "v5p:4x4x4", 16, 6, 6),  # a whole cube
        ("2*v6e:4x4", "2*v6e:4x4", 8, 2, 6),
        ("v5e:1x1", "v5e:1x1", 1, 0, 0),
    ],
)
def test_slices_by_their_names(text, name, hosts, links, hops):
    where = parse(text)
    assert (where.name, where.hosts, where.links, where.hops) == (name, hosts, links, hops)


@pytest.mark.parametrize(
    ("text", "neighbours", "block"),
    [
        ("v5e:16x16", 2, (2, 1)),
        ("v5e:16x16", 4, (2, 2)),
        ("v5e:16x16", 8, (4, 2)),
        ("v5e:16x16", 64, (16, 4)),
        ("v5e:2x4", 8, (2, 4)),
        ("v4:4x4x4", 8, (4, 2, 1)),
        ("v5p:4x4x4", 32, (4, 4, 2)),
        ("v5e:8x8", 0, (8, 8)),
    ],
)
def test_neighbours_lie_in_a_block(text, neighbours, block):
    """As libtpu numbers the chips: read from the coordinates of its devices."""
    assert parse(text).block(neighbours).shape == block


def test_neighbours_send_within_their_block():
    where, few = parse("v5e:16x16"), {"kind": "all-reduce", "shapes": (), "bytes": 128, "times": 3}
    seconds = [
        seconds_of(Collective(**few, devices=n, operation="", span=span), where)
        for n, span in ((256, 256), (8, 8), (32, 249))
    ]
    # There and back: 16 hops in the torus, 4 in a block of 4 x 2 chips.
    assert seconds == pytest.approx([3 * 2 * 16e-6, 3 * 2 * 4e-6, 3 * 2 * 16e-6])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v9:2x2", "no chip 'v9' is known; choose one of v4, v5e, v5p, v6e"),
        ("v5e:2x2x2", "v5e has 2 axes"),
        ("v5e:0x4", "v5e has 2 axes"),
        ("v4-6", "write its shape, such as v4:2x2x1"),
        ("v5e", "is not a slice; write v5e:4x4"),
        ("4x4", "is not a slice"),
    ],
)
def test_what_is_not_a_slice_is_refused(text, said):
    with pytest.raises(UserError, match="--topology: ") as refused:
        parse(text)
    assert said in str(refused.value)


def test_peaks_are_those_of_the_published_units():
    """Matrix units of 128 x 128 in each chip, two operations each a cycle; published to three digits."""
    for name, units in {"v4": 8, "v5e": 4, "v5p": 8}.items():
        chip = CHIPS[name]
        assert chip.peak == pytest.approx(units * 128**2 * 2 * chip.clock, rel=3e-3)
    assert all(chip.usable <= 1.01 * chip.memory for chip in CHIPS.values())


def test_the_longest_of_the_chips_own_times_and_the_links():
    where = parse("v5e:2x4")  # a line of four, a line of two: a link along each
    late = Collective("all-reduce", ("f32[1000000]",), 4_000_000, 8, 1, "")
    early = Collective("all-gather", ("f32[8]",), 32, 8, 3, "", True)
    found = predicted(compiled(197e9, 819_000_000, 3_000_000, [late, early]), where)
    assert found.compute == pytest.approx(1e-3)
    assert found.memory == pytest.approx(1e-3)
    assert found.cycles == pytest.approx(2e-3)
    assert found.waiting == pytest.approx(2 * 7 / 8 * 4e6 / (2 * 50e9))
    assert found.overlapped == pytest.approx(3 * 4 * 1e-6)  # so few bytes take the hops' time
    assert found.step == pytest.approx(2e-3 + found.waiting)
    assert found.binds == "compute"
    assert predicted(compiled(0, 8_190_000_000, 3_000_000), where).binds == "memory"
    assert predicted(compiled(0, 0, 1000, [late]), where).binds == "interconnect"
    assert seconds_of(late, parse("v5e:16x16")) < seconds_of(late, where)


def test_hours_price_and_the_hosts_share():
    config = changed(defaults(), {"batch_size": 64, "epochs": 10, "data.num_threads": 2})
    where = parse("v5e:2x4")
    step = compiled(0, 0, 30_000_000)  # 20 ms
    plan = planned(config, step, where, speed=1000.0, steps=100, price=1.5)
    assert (plan["binds"], plan["step_ms"]) == ("compute", 20.0)
    assert plan["images_a_second_of_a_host"] == 1600
    assert plan["threads_needed"] == 2
    assert plan["run_hours"] == pytest.approx(0.020 * 100 * 10 / 3600, abs=1e-4)
    assert plan["price"] == pytest.approx(8 * 1.5 * 0.020 * 1000 / 3600, abs=0.01)
    slow = planned(config, step, where, speed=100.0, steps=100, price=None)
    assert (slow["binds"], slow["step_ms"], slow["price"]) == ("input", 160.0, None)
    assert slow["threads_needed"] == 16
    assert planned(config, step, where, speed=None, steps=1, price=None)["input_ms"] == 0


@pytest.mark.parametrize("bend", [0.0, 0.3])
@pytest.mark.parametrize("begin", [16, 4096])
def test_the_largest_batch_takes_three_compilations(begin, bend):
    """Memory of 1 MB and 10 kB a row, and where it bends less for the second half; 10 MB fit."""
    compilations = []

    def needed(batch):
        return 1e6 + 1e4 * batch - bend * 1e4 * max(batch - 450, 0)

    def compile_for(batch):
        compilations.append(batch)
        if needed(batch) > 10e6:
            raise DoesNotFit(needed(batch), 10e6)
        return compiled(all=int(needed(batch)))

    tries = largest_batch(compile_for, begin, step=16, fixed=1e6, usable=10e6, most=5000)
    assert len(compilations) == len(tries) <= 3
    best = max(one.batch for one in tries if one.compiled)
    true = max(batch for batch in range(16, 5000, 16) if needed(batch) <= 10e6)
    assert 0.9 * true <= best <= true
    assert all(batch % 16 == 0 for batch in compilations)
    few = largest_batch(compile_for, 16, step=16, fixed=1e6, usable=10e6, most=100)
    assert max(one.batch for one in few) == 96  # there are no more images


def test_sizes_without_images(tmp_path):
    config = changed(defaults(), {"source": "cub200:", "data.validation_fraction": 0.1})
    found = sizes_of(config)
    assert (found.classes, found.images) == (200, round(5994 * 0.9))
    assert found.whence == "as published, less the shares held out"
    assert sizes_of(changed(defaults(), {"source": "synthetic_birds/cub_like"})).images == 200 * 30
    gone = changed(defaults(), {"source": f"folder:{tmp_path}/gone"})
    with pytest.raises(UserError, match="there is no such folder; give --classes=N --images=N"):
        sizes_of(gone)
    assert sizes_of(gone, 7, 700).images == 700
    with pytest.raises(UserError, match="--classes: must be at least 1, not 0"):
        sizes_of(gone, 0, 700)
    left = changed(defaults(), {"batch_size": -1, "epochs": -1})
    with pytest.raises(UserError, match=r"leaves epochs, batch_size to the images.*--config.epochs="):
        settled(left, sizes_of(gone, 7, 700), [])


def test_images_a_core_are_those_that_are_prepared():
    from cdml_jax.runs.compile import feeding

    speed = feeding.images_a_core(defaults().image)
    assert 50 < speed < 50_000
    assert np.isfinite(speed)
