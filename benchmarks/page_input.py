"""Sections of docs/performance.md: the input pipeline and the start, from their JSON."""

from __future__ import annotations

_INPUT = (
    "JPEG photographs to batches after a random resized crop (35 to 100 % of the area), a mirror image for "
    "half of them and colour jitter, beside torch's DataLoader with Pillow and beside tf.data, on the same "
    "cores ([input_pipeline.py](../benchmarks/input_pipeline.py)). Each side has a process of its own and "
    "waits while it is not its turn. Of a peer's settings the fastest takes part: numbers of workers and "
    "Pillow's `draft` for torch, whose Pillow view is written as torchvision's backend does it; colours of "
    "single images or of whole batches for tf.data, which decodes only the box and tunes itself "
    '(`AUTOTUNE`). "decoded images kept" is what training does with a set that fits into '
    "`data.cache_bytes`. Ratios are the side's time over ours; processor time is what all cores spent on an "
    "image, which neighbours on the machine disturb less. The aim is 1.5 over both peers."
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
            low, high = one["ratio_quartiles"]
            processor = one["processor_ms"] / ours["processor_ms"]
            cells = ["", "", ""]
            if name != "ours":
                cells = [f"**{one['ratio']:.2f}**", f"{low:.2f} to {high:.2f}", f"**{processor:.2f}**"]
            lines.append(
                f"| {name} | {one['setting']} | {one['images_per_second']:,.0f} | {cells[0]} | {cells[1]} "
                f"| {one['processor_ms']:.2f} | {cells[2]} |"
            )
        scaled = ", scaled to that size and saved at quality 90" if r["resized"] else ""
        measured = (
            f"{r['photographs']:,} photographs of {r['width']} x {r['height']} pixels, {r['kilobytes']} kB "
            f"(medians; mean){scaled}; to {r['size']} px, batches of {r['batch']}, jitter {r['jitter']}; "
            f"medians of {r['turns']} turns. {r['device']} ({r['machine']}), {r['cores']} cores; "
            f"load average {r['load'][0]} when it ended."
        )
        lines += ["", measured]
    return "\n".join(lines) + "\n"
