"""Write docs/performance.md from benchmarks/results/*.json, so that no figure on it is typed by hand.

python benchmarks/write_page.py
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
INTRODUCTION = """\
# Performance

Every figure below was measured by a script in [benchmarks](../benchmarks); `make bench` runs them again and
writes this page. A ratio is the median over repeats that alternate the two sides in one process, with its
quartiles: absolute times drift with the machine, ratios hardly.
"""
_OVERHEAD = (
    "The CDML step (class weights, triplets, soft confusion counts, logged metrics) over a plain softmax "
    "step with the same network, batch and optimiser "
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


SECTIONS = {"step_overhead": step_overhead}


def page(folder: Path) -> str:
    """The page's text from the results in a folder, whose names begin with their section's."""
    parts = [INTRODUCTION]
    for name, section in SECTIONS.items():
        results = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}*.json"))]
        if results:
            parts.append(section(results))
    return "\n".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "performance.md").write_text(page(ROOT / "benchmarks" / "results"))
