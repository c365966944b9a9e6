"""Sections of docs/performance.md: the input pipeline and the start, from their JSON."""

from __future__ import annotations

_INPUT = (
    "This table shows the time to turn JPEG photographs into batches with a random resized crop (35 to 100 % "
    "of the area), a mirror image for half of them and colour jitter. It is compared with torch's DataLoader "
    "with Pillow and with tf.data on the same cores ([input_pipeline.py](../benchmarks/input_pipeline.py)). "
    "Each side has a process of its own and waits while it is not its turn. The fastest settings of each "
    "peer are shown. For torch, the number of workers and Pillow's `draft` were varied, and its code for "
    "Pillow is written as in torchvision's backend. For tf.data, jitter of single images and of whole "
    'batches was tried; it decodes only the box of the crop and tunes itself (`AUTOTUNE`). "decoded images '
    "kept\" is what training does with a set that fits into `data.cache_bytes`. Ratios are the side's time "
    "divided by ours; processor time is the sum over all cores per image, which other programs on the "
    "machine disturb less. The aim is a ratio of 1.5 for both peers."
)
_INPUT_COLUMNS = """\
| side | setting | images/s | ratio | quartiles | processor, ms an image | ratio |
|---|---|---:|---:|---|---:|---:|"""


def input_pipeline(results: list[dict]) -> str:
    """Photographs to augmented batches."""
    lines = ["## Input", "", _INPUT]
    for r in results:
        lines += ["", _INPUT_COLUMNS]
        ours = r["sides"]["ours"]
        for name, one in r["sides"].items():
            cells = _over_ours(name, one, one["processor_ms"] / ours["processor_ms"])
            lines.append(
                f"| {name} | {one['setting']} | {one['images_per_second']:,.0f} | {cells[0]} | {cells[1]} "
                f"| {one['processor_ms']:.2f} | {cells[2]} |"
            )
        scaled = ", scaled to that size and saved at quality 90" if r["resized"] else ""
        measured = (
            f"There were {r['photographs']:,} photographs of {r['width']} x {r['height']} pixels (medians) "
            f"and {r['kilobytes']} kB (mean){scaled}. They were cropped to {r['size']} px in batches of "
            f"{r['batch']} with jitter {r['jitter']}; figures are medians of {r['turns']} turns on "
            f"{r['device']} ({r['machine']}), {r['cores']} cores. The load average was {r['load'][0]} when "
            "it ended."
        )
        lines += ["", measured]
    return "\n".join(lines) + "\n"


def _over_ours(name: str, one: dict, processor: float) -> list[str]:
    """Cells of a side's ratio, its quartiles, and the ratio of processor time; empty for ours."""
    if name == "ours":
        return ["", "", ""]
    low, high = one["ratio_quartiles"]
    return [f"**{one['ratio']:.2f}**", f"{low:.2f} to {high:.2f}", f"**{processor:.2f}**"]


_START = (
    "This table shows the seconds from the command to the end of the first training step "
    "([start_up.py](../benchmarks/start_up.py)); each start is a new process. A cold start finds no compiled "
    "programs; a warm start finds those that one earlier start has stored. Ours is `cdml train "
    "--config=demo` unchanged, including its drawn images, checks, weights and messages; the peer is a "
    "script with the same network, objective and optimiser on random images. Ratios are the side's time "
    "divided by ours, warm by warm and cold by cold; eager PyTorch compiles nothing and is compared with our "
    "warm start. Processor time is the sum over all cores, which other programs on the machine disturb less."
)
_START_COLUMNS = """\
| side | start | seconds | ratio | quartiles | processor, s | ratio |
|---|---|---:|---:|---|---:|---:|"""


def start_up(results: list[dict]) -> str:
    """From the command to the first step."""
    lines = ["## From the command to the first step", "", _START]
    for r in results:
        lines += ["", _START_COLUMNS]
        for name, kinds in r["sides"].items():
            for kind, one in kinds.items():
                ours = r["sides"]["ours"][kind]
                cells = _over_ours(name, one, one["processor_seconds"] / ours["processor_seconds"])
                lines.append(
                    f"| {name} | {kind} | {one['seconds']:.1f} | {cells[0]} | {cells[1]} "
                    f"| {one['processor_seconds']:.1f} | {cells[2]} |"
                )
        measured = (
            f"Figures are medians of {r['repeats']} on {r['device']} ({r['machine']}), {r['cores']} cores, "
            f"with JAX {r['jax']}; the load average was {r['load'][0]} when it ended."
        )
        lines += ["", measured]
    return "\n".join(lines) + "\n"
