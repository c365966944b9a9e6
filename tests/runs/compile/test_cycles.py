"""What is read from the text of a TPU's program: cycles, bytes of HBM, collectives that overlap."""

import pytest

from cdml_jax.distributed.collectives import Collective, collectives
from cdml_jax.distributed.program_text import parse
from cdml_jax.runs.compile.compiled import does_not_fit
from cdml_jax.runs.compile.cycles import LEAST, cycles_of

# As libtpu writes it, shortened: S(1) is the chip's own memory, the other arrays are in HBM.
TEXT = """\
HloModule jit_step, is_scheduled=true, num_partitions=4

%fused (p: f32[8]) -> f32[8] {
  ROOT %hidden = f32[8]{0} copy(%p), backend_config={"estimated_cycles":"999999"}
}

%start (p: f32[2,4]) -> (f32[8,4]) {
  ROOT %g1 = f32[8,4]{1,0:T(8,128)} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, \
dimensions={0}, \
backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
}

%middle (m: f32[4], b: f32[2,4]) -> (f32[4], f32[2,4], f32[8,4]) {
  %m = f32[4]{0} parameter(0)
  %b = f32[2,4]{1,0} parameter(1)
  %g3 = f32[8,4]{1,0:T(8,128)} all-gather(%b), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}, \
backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
}

%done (p: f32[2,4]) -> f32[8,4] {
  ROOT %g2 = f32[8,4]{1,0:T(8,128)} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, \
dimensions={0}, \
backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
}

%body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %q = f32[8]{0} parameter(0)
  %inner = f32[8]{0:T(128)S(1)} fusion(%q), kind=kLoop, calls=%fused, \
backend_config={"estimated_cycles":"100"}
}

%always (b: (s32[], f32[8])) -> pred[] {
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

%short (s: f32[8]) -> f32[8] {
  ROOT %x = f32[8]{0:S(1)} negate(%s), backend_config={"estimated_cycles":"10"}
}

%long (l: f32[8]) -> f32[8] {
  ROOT %y = f32[8]{0:S(1)} negate(%l), backend_config={"estimated_cycles":"3000"}
}

ENTRY %main (p: f32[1024,64]) -> f32[1024,64] {
  %p = f32[1024,64]{1,0:T(8,128)} parameter(0)
  %i = s32[16]{0:T(128)S(1)} parameter(1)
  %big = bf16[1024,64]{1,0:T(8,128)(2,1)} fusion(%p, %p), kind=kLoop, calls=%fused, \
backend_config={"window_config":{"estimated_cycles":"2000"}}
  %near = ((bf16[1024,64]{1,0}), bf16[256,64]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%big), \
slice={[0:256]}
  %there = bf16[256,64]{1,0:T(8,128)S(1)} slice-done(%near)
  %rows = f32[16,64]{1,0:T(8,128)} fusion(%p, %i), kind=kCustom, calls=%fused
  %w = (s32[], f32[8]{0}) while(%t), condition=%always, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %endless = (s32[], f32[8]{0}) while(%t), condition=%always, body=%body
  %c = f32[8]{0:S(1)} conditional(%k, %r, %r), branch_computations={%short, %long}
  %async-collective-start = (f32[2,4]{1,0}, u32[]{:S(2)}) fusion(%r), kind=kCustom, calls=%start
  %e = f32[4]{0} parameter(2)
  %own = f32[2,4]{1,0} parameter(3)
  %beside = (f32[4]{0}, f32[2,4]{1,0}, f32[8,4]{1,0}) fusion(%e, %own), kind=kOutput, calls=%middle, \
backend_config={"estimated_cycles":"50"}
  %async-collective-done = f32[8,4]{1,0} fusion(%r), kind=kCustom, calls=%done
  %sum = (f32[16]{0:T(128)S(1)}, f32[16]{0:T(128)S(1)}) all-reduce(%u, %v), channel_id=3, \
replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, to_apply=%add, metadata={op_name="jit(step)/norm"}
  %join = bf16[256,64]{1,0:S(1)} custom-call(%there), custom_call_target="ConcatBitcast"
  %scalar = s32[] add(%m, %n)
  ROOT %sorted = f32[16]{0:T(128)S(1)} sort(%i), dimensions={0}
}
"""


def test_loops_branches_and_what_has_no_estimate():
    found = cycles_of(parse(TEXT.replace("%rows = ", "%gather_fusion.3 = ")))
    # What is inside a fusion is in its own estimate; the longer branch; five runs and one of unknown number.
    assert found.estimated == 2000 + 5 * 100 + 100 + 3000 + 50
    assert found.without == {"gather": 1, "sort": 1}
    assert found.unknown_loops == 1
    gathered, sorted_bytes = 2 * 4 * 16 * 64, 2 * 4 * 16
    assert found.without_bytes == gathered + sorted_bytes
    looped = 6 * 4 * 8  # what each run of the loop's body reads; it writes to the chip's own memory
    fused, sliced = (4 + 2) * 1024 * 64, 2 * 256 * 64
    beside = 2 * 4 * 4  # without what the gather brings meanwhile
    assert found.moved == fused + sliced + gathered + looped + beside
    assert found.total(bytes_a_cycle=1e9) == found.estimated + 2 * LEAST
    assert found.total(bytes_a_cycle=0.01) == found.estimated + 100 * found.without_bytes


def test_a_collective_spread_over_fusions_is_one_that_overlaps():
    assert collectives(TEXT) == [
        Collective("all-gather", ("f32[8,4]",), 128, 4, 1, "", True, span=4),
        Collective("all-reduce", ("f32[16]", "f32[16]"), 128, 4, 1, "jit(step)/norm", span=4),
    ]


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (
            "Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. Exceeded by 4.75G.",
            (20.5, 15.75),
        ),
        (
            "the total memory required for HLO temporaries (150.00G) exceeds available HBM (31.25G).",
            (150, 31.25),
        ),
        ("Used 2048.00M of 1.00G hbm", (2, 1)),
        ("HLO temporaries (3.50T) exceeds available HBM (15.75G).", (3.5 * 1024, 15.75)),
    ],
)
def test_too_little_memory_is_read_from_what_the_compiler_says(message, numbers):
    refused = does_not_fit(f"RESOURCE_EXHAUSTED: {message}")
    assert (refused.needed, refused.available) == tuple(number * 2**30 for number in numbers)
    assert does_not_fit(f"INTERNAL: {message}") is None
    assert does_not_fit("RESOURCE_EXHAUSTED: too many threads") is None
