"""Of docs/performance.md and docs/clusters.md what the TPU's compiler says, from its JSON."""

from __future__ import annotations

from cdml_jax.distributed.collectives import Collective
from cdml_jax.runs.compile.prediction import seconds_of
from cdml_jax.runs.compile.slices import Slice, parse

_TPU = (
    "These steps were compiled by libtpu for slices that were not available "
    "([tpu_steps.py](../benchmarks/tpu_steps.py)); nothing was run. Cycles are the compiler's own estimate "
    "for one chip, without collectives; operations without an estimate (gathers, scatters, sorts) are "
    'counted in the column "without". HBM is what a step moves between HBM and the chip\'s own memory, read '
    "from the program's text; \"accessed\" is the compiler's count of all bytes that operations read and "
    "write, wherever they are stored. The time is predicted, as described in "
    "[clusters.md](clusters.md#before-the-first-dollar). The figures are the same on every machine."
)
_AIM = (
    "The next table shows the ratio of CDML's step to the plain softmax step of the same network, batch and "
    "optimiser. The aim is 1.02 for cycles and HBM on ResNet-50. Drawing triplets takes about 150 small "
    "operations for every network, which matter more on a small one:"
)
_COLUMNS = """\
| step | network | slice | rows a chip | classes | cycles, M | without | HBM, GB | accessed, GB \
| memory, MiB | all-reduces | others | predicted, ms | binds |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"""


def tpu(results: list[dict]) -> str:
    """All compiled steps, and what CDML's step needs over the plain softmax step."""
    lines = ["## Compiled for TPUs", "", _TPU, "", _COLUMNS]
    cases = {name: case for result in results for name, case in result["cases"].items()}
    for name, case in cases.items():
        found, predicted = case["compiled"], case["predicted"]
        kinds = {kind: each["number"] for kind, each in found["collectives"].items()}
        without = sum(found["operations_without_cycles"].values())
        lines.append(
            f"| {name} | {case['network']} | {case['topology']} | {case['rows']} | {case['classes']:,} "
            f"| {found['cycles'] / 1e6:,.3f} | {without} | {_shown(found['hbm_bytes'], 1e9, 3)} "
            f"| {found['bytes_accessed'] / 1e9:,.2f} | {found['needed_bytes'] / 2**20:,.0f} "
            f"| {kinds.pop('all-reduce', 0)} | {sum(kinds.values())} | {_shown(predicted['step_ms'], 1, 2)} "
            f"| {predicted['binds'] or '-'} |"
        )
    lines += ["", *_ratios(cases)]
    versions = sorted({f"libtpu {case['libtpu']} with JAX {case['jax']}" for case in cases.values()})
    return "\n".join([*lines, "", f"The steps were compiled by {', '.join(versions)}."]) + "\n"


def _shown(number: float | None, unit: float, digits: int) -> str:
    """A number, or a dash where it was not read."""
    return "-" if number is None else f"{number / unit:,.{digits}f}"


def _ratios(cases: dict[str, dict]) -> list[str]:
    """CDML's step over the plain softmax step of the same network, where both were compiled."""
    lines = [_AIM, "", "| network | image | rows a chip | cycles | HBM | accessed | predicted time |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for plain in cases.values():
        same = ("network", "topology", "rows", "classes", "image_size")
        ours = next(
            (
                case
                for case in cases.values()
                if case["method"] == "cdml" and all(case[key] == plain[key] for key in same)
            ),
            None,
        )
        if plain["method"] != "plain softmax" or ours is None:
            continue
        ratios = [
            ours["compiled"][key] / plain["compiled"][key]
            for key in ("cycles", "hbm_bytes", "bytes_accessed")
        ]
        ratios.append(ours["predicted"]["step_ms"] / plain["predicted"]["step_ms"])
        cells = " | ".join(f"**{ratio:.3f}**" for ratio in ratios)
        lines.append(f"| {plain['network']} | {plain['image_size']} px | {plain['rows']} | {cells} |")
    return lines


SCALED, GROUPED = "resnet50, 8 chips", "resnet50, 16 chips, batch norm over 8"
_SLICES = ("v5e:2x4", "v5e:4x4", "v5e:4x8", "v5e:8x8", "v5e:8x16", "v5e:16x16")


_CROSSING_COLUMNS = """\
| slice | chips | batch | chip alone, ms | waiting, ms | while computing, ms | efficiency \
| waiting with groups of 8, ms | efficiency |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def crossing(case: dict, grouped: dict) -> str:
    """Predicted time of a compiled step on slices from 8 to 256 chips, with as many rows on each chip.

    Args:
      case: the step.
      grouped: the same with statistics of batch norm over groups of chips.
    """
    lines = [_CROSSING_COLUMNS]
    for name in _SLICES:
        where = parse(name)
        alone, waiting, beside, efficiency = _on(where, case)
        line = (
            f"| {name} | {where.chips} | {where.chips * case['rows']:,} | {alone:.2f} | {waiting:.2f} "
            f"| {beside:.2f} | **{efficiency:.0%}** "
        )
        if where.chips < grouped["chips"]:
            lines.append(f"{line}| the same | |")
            continue
        # The chip's own time is that of the other step: what is compared is what crosses.
        _, waiting, beside, _ = _on(where, grouped)
        lines.append(f"{line}| {waiting:.2f} | **{alone / max(alone + waiting, beside):.0%}** |")
    return "\n".join(lines) + "\n"


def _on(where: Slice, case: dict) -> tuple[float, float, float, float]:
    """Milliseconds of a chip alone, waiting, and of what crosses meanwhile, on a slice; the efficiency.

    Collectives of neighbours stay theirs; all others are among as many more devices as there are more chips.
    What is gathered grows with the batch, and so does its gradient where the compiler all-reduces that.
    """
    predicted, chips = case["predicted"], case["chips"]
    alone = max(predicted[key] for key in ("compute_ms", "memory_ms", "cycles_ms"))
    waiting = beside = 0.0
    gathered = [one["bytes"] for one in case["compiled"]["crossing"] if one["kind"] == "all-gather"]
    for one in case["compiled"]["crossing"]:
        among, span = one["devices"], one.get("span", one["devices"])
        bytes_there = one["bytes"]
        if span >= chips or span != among:
            of_rows = one["kind"] in ("all-gather", "all-reduce") and one["bytes"] in gathered
            bytes_there *= where.chips / chips if of_rows else 1
            among, span = max(among * where.chips // chips, 1), 0
        there = Collective(one["kind"], (), round(bytes_there), among, 1, "", one["overlapped"], span)
        seconds = one["number"] * seconds_of(there, where) if among > 1 else 0.0
        waiting, beside = (waiting, beside + seconds) if one["overlapped"] else (waiting + seconds, beside)
    waiting, beside = 1e3 * waiting, 1e3 * beside
    return alone, waiting, beside, alone / max(alone + waiting, beside)
