"""Of docs/performance.md and docs/clusters.md what the TPU's compiler says, from its JSON."""

from __future__ import annotations

from cdml_jax.distributed.collectives import Collective
from cdml_jax.runs.compile.prediction import seconds_of
from cdml_jax.runs.compile.slices import Slice, parse
from cdml_jax.runs.profiling import size

_TPU = (
    "These steps were compiled by libtpu for slices that were not available "
    "([tpu_steps.py](../benchmarks/tpu_steps.py)); nothing was run. Cycles are the compiler's own estimate "
    "for one chip, without collectives; operations without an estimate (gathers, scatters, sorts) are "
    'counted in the column "without". HBM is what a step moves between HBM and the chip\'s own memory, read '
    "from the program's text; \"accessed\" is the compiler's count of all bytes that operations read and "
    "write, wherever they are stored. The time is predicted, as described in "
    "[clusters.md](clusters.md#before-the-first-dollar). The figures are the same on every machine. "
    "Of the ways to find triplets, between which a step switches, the one with the most cycles counts. A "
    "miner compares a chip's own anchors with the rows of all chips, so this part grows with the slice, as "
    "ResNet-50 on 64 and 256 chips shows. CDML draws its triplets and runs no miner, "
    "so its own step takes fewer cycles than the table says."
)
_AIM = (
    "The next table shows the ratio of CDML's step to the plain softmax step of the same network, batch and "
    "optimiser. The aim is 1.02 for cycles and HBM on ResNet-50. Drawing triplets takes the same small "
    "operations for every network, which matter more on a small one:"
)
_COLUMNS = """\
| step | network | slice | rows a chip | classes | cycles, M | without | HBM, GB | accessed, GB \
| memory, MiB | all-reduces | others | predicted, ms | binds |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"""


def tpu(results: list[dict]) -> str:
    """All compiled steps, and what CDML's step needs over the plain softmax step."""
    lines = ["## Compiled for TPUs", "", _TPU, "", _COLUMNS]
    everything = {name: case for result in results for name, case in result["cases"].items()}
    cases = {name: case for name, case in everything.items() if "piece" not in case}
    for name, case in cases.items():
        found, predicted = case["compiled"], case["predicted"]
        kinds = {kind: each["number"] for kind, each in found["collectives"].items()}
        without = sum(found["operations_without_cycles"].values())
        lines.append(
            f"| {name} | {case['network']} | {case['topology']} | {case['rows']} | {case['classes']:,} "
            f"| {found['cycles'] / 1e6:,.3f} | {without} | {found['hbm_bytes'] / 1e9:,.3f} "
            f"| {found['bytes_accessed'] / 1e9:,.2f} | {found['needed_bytes'] / 2**20:,.0f} "
            f"| {kinds.pop('all-reduce', 0)} | {sum(kinds.values())} | {predicted['step_ms']:,.2f} "
            f"| {predicted['binds']} |"
        )
    lines += ["", *_ratios(cases), "", *_over_reference(cases)]
    if ideas := {name: case for name, case in everything.items() if "piece" in case}:
        lines += ["", *_ideas(ideas)]
    versions = sorted({f"libtpu {case['libtpu']} with JAX {case['jax']}" for case in cases.values()})
    return "\n".join([*lines, "", f"The steps were compiled by {', '.join(versions)}."]) + "\n"


def _ratios(cases: dict[str, dict]) -> list[str]:
    """CDML's step over the plain softmax step of the same network, where both were compiled."""
    lines = [_AIM, "", "| network | image | rows a chip | cycles | HBM | accessed | predicted time |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for plain in cases.values():
        same = ("network", "topology", "rows", "classes", "image_size", "forms")
        ours = next(
            (
                case
                for case in cases.values()
                if case["method"] == "cdml" and all(case.get(key) == plain.get(key) for key in same)
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
        network = plain["network"] + (", forms for TPUs" if plain.get("forms") == "tpu" else "")
        lines.append(f"| {network} | {plain['image_size']} px | {plain['rows']} | {cells} |")
    return lines


_REFERENCE = (
    "The reference is the training step of Flax's own ImageNet example (ResNet-50, 224 px, bfloat16, "
    "Nesterov momentum, weight decay in the loss, no label smoothing), written from its description "
    "([tpu_reference.py](../benchmarks/tpu_reference.py)) and compiled for the same chip and rows. The next "
    "table shows our steps as parts of it. Ours do more: they take bytes, clip gradients, and have an "
    'embedding; CDML\'s also draws, counts and logs. "With the rest" adds to the cycles what operations '
    "without an estimate take by their number or bytes "
    "([clusters.md](clusters.md#before-the-first-dollar)). The aim is 0.92 for cycles and bytes. "
    "EfficientNet-Lite0 is compared with itself in the forms that it has on other platforms; the aim is 0.8 "
    "of the cycles, which is not reached."
)
_TRIED = (
    "Ideas were first tried on pieces of networks, forward and backward, with 128 rows of bfloat16 on one "
    "chip of v5e ([tpu_ideas.py](../benchmarks/tpu_ideas.py)). The figures are parts of those of the same "
    "piece in the form of all other platforms. Those in bold are in the package, for training in bfloat16 on "
    "TPUs; other platforms compute what they did. In exact arithmetic, no form changes a result."
)


_ALSO = (
    "Also tried, on two blocks of a stage: covariances for shortcuts with a stride (second stage: 0.968 of "
    "the cycles with the rest, but 1.13 of the bytes of HBM, since the pixels that a stride leaves are "
    "written and their gradient is spread out again; left out); the norm's factor multiplied into the kernel "
    "(1.000 of the cycles; left out); the mean of the inputs as a product with ones in place of a sum (0.037 "
    "in place of 0.366 M cycles each; taken); the first of two products of the inputs' gradient rounded to "
    "bfloat16 (0.97 of the cycles; taken). Where there are few channels, the compiler fills the lanes with "
    "rows of the batch, which is why narrow channels gain nothing from other forms. Of EfficientNet-Lite0's "
    "63.3 M cycles, 41.2 M are depthwise convolutions, for which no form was better than the compiler's."
)


def _over_reference(cases: dict[str, dict]) -> list[str]:
    """Steps as parts of the reference's, or of their own in other forms, on one chip with as many rows."""
    lines = [_REFERENCE, "", "| step | compared with | cycles | with the rest | HBM | accessed | memory |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for base_name, base in cases.items():
        same = ("network", "topology", "rows", "method")
        if base["method"] == "reference":
            same = same[:-1]
        elif base.get("forms") != "all":
            continue
        for name, case in cases.items():
            if case is not base and all(case[key] == base[key] for key in same):
                lines.append(f"| {name} | {base_name} | {_parts(case, base, '**')} |")
    return lines


def _ideas(cases: dict[str, dict]) -> list[str]:
    """What each idea was expected to do and did."""
    lines = [_TRIED, "", "| piece | idea | expected | cycles | with the rest | HBM | accessed | memory |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    plain = {case["piece"]: case for case in cases.values() if not case["idea"]}
    for case in cases.values():
        if case["idea"]:
            bold = "**" if case["taken"] else ""
            parts = _parts(case, plain[case["piece"]], bold)
            lines.append(f"| {case['piece']} | {case['idea']} | {case['expected']} | {parts} |")
    return [*lines, "", _ALSO]


def _parts(case: dict, whole: dict, bold: str) -> str:
    """Cells: cycles, cycles with the rest, bytes of HBM, bytes accessed and memory as parts of another's."""
    ratios = [
        case["compiled"][key] / whole["compiled"][key] for key in ("cycles", "hbm_bytes", "bytes_accessed")
    ]
    ratios.insert(1, case["predicted"]["cycles_ms"] / whole["predicted"]["cycles_ms"])
    ratios.append(case["compiled"]["needed_bytes"] / whole["compiled"]["needed_bytes"])
    return " | ".join(f"{bold}{ratio:.3f}{bold}" for ratio in ratios)


SCALED, GROUPED = "resnet50, 8 chips, forms for TPUs", "resnet50, 16 chips, batch norm over 8"
_SLICES = ("v5e:2x4", "v5e:4x4", "v5e:4x8", "v5e:8x8", "v5e:8x16", "v5e:16x16")


_CROSSING_COLUMNS = """\
| slice | chips | batch | chip alone, ms | waiting, ms | while computing, ms | efficiency | step, ms \
| step with groups of 8, ms |
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
        alone, waiting, beside, step = _on(where, case)
        line = (
            f"| {name} | {where.chips} | {where.chips * case['rows']:,} | {alone:.2f} | {waiting:.2f} "
            f"| {beside:.2f} | **{alone / step:.0%}** | **{step:.2f}** "
        )
        in_groups = f"**{_on(where, grouped)[-1]:.2f}**" if where.chips >= grouped["chips"] else ""
        lines.append(f"{line}| {in_groups} |")
    return "\n".join(lines) + "\n"


_SPACES = """\
| classes | storage | memory of a chip | of it counts and weights | cycles | all-reduced | gathered |
|---:|---|---:|---:|---:|---:|---:|"""


def spaces(cases: dict[str, dict]) -> str:
    """What grows with the classes: memory, cycles and what crosses, of the same step with each storage.

    Args:
      cases: the steps, by name.
    """
    lines = [_SPACES]
    for case in cases.values():
        found = case["compiled"]
        kept = found["memory_bytes"]["counts"] + found["memory_bytes"]["class and pair weights"]
        crosses = found["collectives"]
        gathered = f"{crosses['all-gather']['bytes'] / 1e6:.1f} MB" if "all-gather" in crosses else "nothing"
        lines.append(
            f"| {case['classes']:,} | `{case['storage']}` | {size(found['needed_bytes'])} "
            f"| {size(kept)} | {found['cycles'] / 1e6:.2f} M "
            f"| {crosses['all-reduce']['bytes'] / 1e6:.1f} MB | {gathered} |"
        )
    return "\n".join(lines) + "\n"


def _on(where: Slice, case: dict) -> tuple[float, float, float, float]:
    """Milliseconds of a chip alone, waiting, of what crosses meanwhile, and of the whole step, on a slice.

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
    return alone, waiting, beside, max(alone + waiting, beside)
