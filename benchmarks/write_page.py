"""Write docs/performance.md, and a table of docs/clusters.md, from benchmarks/results/*.json.

So that no figure on them is typed by hand.

python benchmarks/write_page.py
"""

from __future__ import annotations

import json
from pathlib import Path

import page_input
import page_tpu
import page_training_step

ROOT = Path(__file__).parent.parent
INTRODUCTION = """\
# Performance

The tables below were made by scripts in [benchmarks](../benchmarks); `make bench` runs the scripts again and
writes this page. A ratio is the median over repeats in which the two sides alternate, with its quartiles,
because absolute times change with the load of the machine and ratios change little.
"""
_OVERHEAD = (
    "This table compares the CDML step (class weights, triplets, soft confusion counts, logged metrics) with "
    "a plain softmax step of the same network, batch and optimiser "
    "([step_overhead.py](../benchmarks/step_overhead.py)). The aim is at most 1.10 on a CPU."
)
_OVERHEAD_COLUMNS = """\
| network | image | batch | classes | triplets | plain, ms | CDML, ms | ratio | quartiles | device | JAX |
|---|---:|---:|---:|---:|---:|---:|---:|---|---|---|"""


def step_overhead(results: list[dict]) -> str:
    """What being cost-sensitive costs."""
    lines = [
        "## What being cost-sensitive costs",
        "",
        _OVERHEAD,
        "",
        _OVERHEAD_COLUMNS,
    ]
    for r in results:
        low, high = r["ratio_quartiles"]
        lines.append(
            f"| {r['network']} | {r['image_size']} px | {r['batch_size']} | {r['classes']} | {r['triplets']} "
            f"| {r['plain_ms']} | {r['cdml_ms']} | **{r['ratio']:.3f}** | {low:.3f} to {high:.3f} "
            f"| {r['device']} ({r['machine']}) | {r['jax']} |"
        )
    return "\n".join(lines) + "\n"


_COLLECTIVES = (
    "This table shows the bytes that each device sends in a step, read from the compiled program "
    "([collectives.py](../benchmarks/collectives.py)). The number of rows on each device is the same in "
    "every line. An all-reduce over N devices in a ring sends 2 (N − 1) / N times its bytes; without that "
    "factor its bytes are constant. Labels and embeddings are gathered by every device, so theirs grow with "
    "the batch. An implementation that counts into one (C, C) matrix on every device additionally sends the "
    "bytes in the last column in every step; here the counts are summed once an epoch."
)
_COLLECTIVES_COLUMNS = """\
| network | classes | devices | rows each | all-reduce, bytes | all-gather, bytes | reduce-scatter, bytes \
| sent by each | (C, C) counts would add |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def collectives(results: list[dict]) -> str:
    """What crosses devices in a step."""
    lines = ["## What crosses devices", "", _COLLECTIVES, "", _COLLECTIVES_COLUMNS]
    for r in results:
        for line in r["table"]:
            kinds = " | ".join(
                f"{line['kinds'].get(kind, {'bytes': 0})['bytes']:,}"
                for kind in ("all-reduce", "all-gather", "reduce-scatter")
            )
            lines.append(
                f"| {r['network']} | {r['classes']} | {line['devices']} | {r['rows']} | {kinds} "
                f"| {line['sent']:,} | {line['peer_sent_more']:,} |"
            )
    return "\n".join(lines) + "\n"


_LABEL_SPACES = (
    "This table shows the cost of counting a batch, drawing its triplets, summing up an epoch and planning "
    "the next one ([label_spaces.py](../benchmarks/label_spaces.py)), for each way of storing the counts "
    "(`confusion.storage`). Bytes are those on each of eight devices. The devices are simulated and share "
    "the cores of one processor that was also doing other work, so the times only show what grows with what; "
    "processor time is the sum over all cores, which other programs disturb less. "
    "Counting includes the softmax or the argmax of the batch's logits, which every kind of storage needs. "
    "Summing up an epoch is all that follows its last step: merging the counts, rates, class weights, pair "
    "weights, figures and the largest pairs; all counters are in use. The aims for 300,000 classes are 10 s "
    "for it and 3 s for the plan. Counters on a processor are merged by numpy, bit for bit as by XLA there: "
    "its sorts of pairs took 16 s of processor time, where numpy's sorts of single integers take 2.5 s. "
    'In the columns named "beside", MB are the memory that is used in addition to the logits or the weights.'
)
_LABEL_SPACES_COLUMNS = """\
| storage | classes | batch | counters | counts, MB | pair weights, MB | count hard, ms | count soft, ms \
| beside logits, soft, MB | draw, ms | beside weights, draw, MB | epoch, ms | processor, ms | plan, ms \
| processor, ms |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def label_spaces(results: list[dict]) -> str:
    """What grows with the number of classes."""
    lines = ["## What large label spaces cost", "", _LABEL_SPACES, "", _LABEL_SPACES_COLUMNS]
    for r in results:
        for case in r["cases"]:
            megabytes = {
                name: f"{value / 1e6:,.2f}" for name, value in case.items() if name.endswith("_bytes")
            }
            lines.append(
                f"| `{case['storage']}` | {case['classes']:,} | {case['batch']:,} | {case['k'] or ''} "
                f"| {megabytes['counts_bytes']} | {megabytes['pair_weights_bytes']} "
                f"| {case['count_hard_ms']:,} | {case['count_soft_ms']:,} "
                f"| {megabytes['count_soft_temporary_bytes']} | {case['draw_ms']:,} "
                f"| {megabytes['draw_temporary_bytes']} | {case['epoch_ms']:,.0f} "
                f"| {case['epoch_processor_ms']:,.0f} | {case['plan_ms']:,.0f} "
                f"| {case['plan_processor_ms']:,.0f} |"
            )
        measured = f"Times are medians of {r['repeats']}, for {r['triplets_per_image']} triplets per image"
        lines += ["", f"{measured}. Devices: {r['devices']}, with JAX {r['jax']}."]
    return "\n".join(lines) + "\n"


_ON_PAPER_COLUMNS = """\
| set | classes | machine | batch | computing, ms | crossing, ms | of which latency | efficiency | images/s \
| with (C, C) counts |
|---|---:|---|---:|---:|---:|---:|---:|---:|---:|"""


def on_paper(result: dict) -> str:
    """Predicted step times on larger machines."""
    lines = [_ON_PAPER_COLUMNS]
    for r in result["table"]:
        lines.append(
            f"| {r['set']} | {r['classes']:,} | {r['machine']} | {r['batch']:,} | {r['compute_ms']} "
            f"| {r['crossing_ms']} | {r['latency_ms']} | **{r['efficiency']:.0%}** "
            f"| {r['images_per_second']:,} | {r['peer_efficiency']:.0%} |"
        )
    lines += [
        "",
        "| set | operations an image | collectives | reduced, MB | rows gathered and scattered, MB |",
    ]
    lines += ["|---|---:|---:|---:|---:|"]
    for r in result["table"]:
        lines.append(
            f"| {r['set']}, {r['machine']} | {r['gigaflop_per_image']} G | {r['collectives']} "
            f"| {r['reduced_bytes'] / 1e6:.1f} | {r['rows_bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines) + "\n"


def with_table(text: str, table: str, mark: str = "on paper") -> str:
    """The text of docs/clusters.md with the table between its two marks."""
    before, begin, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not begin or not end:
        raise ValueError(f"docs/clusters.md lacks the marks <!-- {mark} --> and <!-- end -->")
    return before + begin + "\n" + table + "\n" + end + after


def with_tables(text: str, folder: Path) -> str:
    """The text of docs/clusters.md with its tables, from the results in a folder."""
    paper, steps, spaces = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("scaling_model", "tpu_steps", "tpu_classes")
    )
    steps = steps["cases"]
    text = with_table(text, on_paper(paper))
    text = with_table(text, page_tpu.crossing(steps[page_tpu.SCALED], steps[page_tpu.GROUPED]), "crossing")
    return with_table(text, page_tpu.spaces(spaces["cases"]), "spaces")


_RETRIEVAL = (
    "Recall@1, R-precision and mAP@R of all embeddings among each other were computed exactly, and compared "
    "with pytorch-metric-learning's AccuracyCalculator with faiss on the same cores "
    "([retrieval.py](../benchmarks/retrieval.py)). Ratios are the peer's time divided by ours; processor "
    "time is the sum over all cores, which other programs on the machine disturb less. On a CPU, our code "
    "uses each core as a device, and the devices share the queries. The aim is 1.0 on a CPU."
)
_RETRIEVAL_COLUMNS = """\
| embeddings | size | classes | ours, s | peer, s | ratio | range | ours, processor s | peer, processor s \
| ratio | device | JAX |
|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---|---|"""


def retrieval(results: list[dict]) -> str:
    """Nearest neighbours of all embeddings."""
    lines = ["## Retrieval", "", _RETRIEVAL, "", _RETRIEVAL_COLUMNS]
    for r in results:
        low, high = r["ratio_range"]
        lines.append(
            f"| {r['images']:,} | {r['size']} | {r['classes']:,} | {r['ours_s']} | {r['peer_s']} "
            f"| **{r['ratio']:.2f}** | {low:.2f} to {high:.2f} | {r['ours_processor_s']} "
            f"| {r['peer_processor_s']} | **{r['processor_ratio']:.2f}** | {r['device']} ({r['machine']}) "
            f"| {r['jax']} |"
        )
    return "\n".join(lines) + "\n"


_TRIPLETS = (
    "This table shows the time for choosing triplets, for their loss, and for its gradient with respect to "
    "the embeddings. Each cell has the milliseconds and, in bold, the ratio to our time (the first line). In "
    "brackets are the quartiles of that ratio and the ratio of the fastest calls, which other programs on "
    "the machine disturb least ([triplet_term.py](../benchmarks/triplet_term.py)). The methods use different "
    "triplets: ours and `triplets_per_anchor=4` draw four triplets for each image, the semi-hard miner takes "
    "all semi-hard triplets of the batch, batch-hard takes one for each image, and naive JAX takes all. "
    "pytorch-metric-learning computes distances as products, the faster of its two ways; for optax, our code "
    "draws the triplets. There are three aims: at B = 512, a hundredth of the time of "
    "pytorch-metric-learning's semi-hard miner and loss; less time than `triplets_per_anchor=4` and "
    "batch-hard at every size; and at B = 4,096, less than half of the time that the semi-hard miner and "
    "loss take at B = 512."
)
_TRIPLET_MEMORY = (
    "This table shows the memory in addition to the inputs, in MB. For the JAX programs it is the "
    "temporaries that the compiler plans. For torch it is the increase of the resident size of a separate "
    "process in one call, after a first call with 64 rows."
)


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.15g}"


def _ratio(side: dict) -> str:
    ratio, low, high, best = map(_digits, (side["ratio"], *side["ratio_quartiles"], side["best_ratio"]))
    return f"**{ratio}** ({low} to {high}; fastest {best})" if side["turns"] > 1 else f"**{ratio}** (once)"


def _measured(result: dict) -> str:
    load = result["load"][0]
    return (
        f"This was measured on {result['device']} ({result['machine']}), with {result['cores']} of its cores "
        f"for every side and JAX {result['jax']}; the load average was {load} when it ended."
    )


def triplet_term(results: list[dict]) -> str:
    """The triplet term beside other libraries'."""
    lines = ["## The triplet term", "", _TRIPLETS]
    for r in results:
        cases = r["cases"]
        names = list(dict.fromkeys(name for case in cases for name in case["sides"]))
        header = "| side | " + " | ".join(f"B = {case['batch']:,}" for case in cases) + " |"
        times, memory = [], []
        for name in names:
            sides = [case["sides"].get(name) for case in cases]
            ratios = [f"{_digits(s['ms'])}, {_ratio(s)}" if s else "" for s in sides]
            if name == names[0]:
                ratios = [_digits(s["ms"]) for s in sides]
            times.append(f"| {name} | " + " | ".join(ratios) + " |")
            megabytes = [f"{s['bytes'] / 1e6:,.1f}" if s and s["bytes"] is not None else "" for s in sides]
            memory.append(f"| {name} | " + " | ".join(megabytes) + " |")
        rule = "|---|" + "---:|" * len(cases)
        lines += ["", header, rule, *times, "", _TRIPLET_MEMORY, "", header, rule, *memory, ""]
        for case in cases:
            lines += [
                f'- At B = {case["batch"]:,}, "{n}" was left out ({why}).'
                for n, why in case["skipped"].items()
            ]
        lines += ["", f"D = {r['size']}, {r['images_per_class']} images per class. {_measured(r)}"]
    return "\n".join(lines) + "\n"


_COUNTS = (
    "This table shows the time for counting true against predicted classes: the milliseconds and, in bold, "
    "the ratio to our time, with its quartiles and the ratio of the fastest calls "
    '([confusion_counts.py](../benchmarks/confusion_counts.py)). "new" makes a new matrix; "added" adds to '
    "an existing one, as training does, and ours does so in place. torchmetrics runs with "
    "`validate_args=False`. The aims are to be as fast at 200 classes and 10 times as fast at 10,000. A new "
    "matrix of 10,000 classes takes 400 MB of int32 here and 800 MB of int64 in torchmetrics, and getting "
    "that memory from the system takes most of the time of both."
)


def confusion_counts(results: list[dict]) -> str:
    """Confusion counts beside other libraries'."""
    lines = ["## Confusion counts", "", _COUNTS]
    for r in results:
        cases = r["cases"]
        lines += ["", "| side | " + " | ".join(f"C = {case['classes']:,}" for case in cases) + " |"]
        lines += ["|---|" + "---:|" * len(cases)]
        for name in sorted({name for case in cases for name in case["sides"]}):
            sides = [case["sides"].get(name) for case in cases]
            plain = name in ("new: ours", "added: ours")
            cells = [_digits(s["ms"]) + ("" if plain else f", {_ratio(s)}") if s else "" for s in sides]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
        for case in cases:
            lines += [
                f'- At C = {case["classes"]:,}, "{n}" was left out ({why}).'
                for n, why in case["skipped"].items()
            ]
        lines += ["", f"Each count is of {r['labels']:,} labels. {_measured(r)}"]
    return "\n".join(lines) + "\n"


SECTIONS = {
    "training_step": page_training_step.training_step,
    "step_overhead": step_overhead,
    "triplet_term": triplet_term,
    "confusion_counts": confusion_counts,
    "collectives": collectives,
    "label_spaces": label_spaces,
    "retrieval": retrieval,
    "input_pipeline": page_input.input_pipeline,
    "start_up": page_input.start_up,
    "checkpoint_cost": page_training_step.checkpoint_cost,
    "tpu": page_tpu.tpu,
}


def page(folder: Path) -> str:
    """The page's text from the results in a folder, whose names begin with their section's."""
    parts = [INTRODUCTION]
    for name, section in SECTIONS.items():
        results = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}*.json"))]
        if results:
            parts.append(section(results))
    return "\n".join([*parts, page_training_step.CHANGES])


if __name__ == "__main__":
    (ROOT / "docs" / "performance.md").write_text(page(ROOT / "benchmarks" / "results"))
    clusters = ROOT / "docs" / "clusters.md"
    clusters.write_text(with_tables(clusters.read_text(), ROOT / "benchmarks" / "results"))
