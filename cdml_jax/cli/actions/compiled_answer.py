"""What `cdml compile` prints: one screen for a slice, one table for several."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from cdml_jax.runs.compile.chips import CLOCKS_ASSUMED
from cdml_jax.runs.compile.cycles import LEAST
from cdml_jax.runs.profiling import size
from cdml_jax.system import console

_WIDTH = 110  # letters of a line
_ADVICE = {
    "interconnect": "the chips wait for each other: more rows a chip (--largest-batch), or fewer chips",
    "memory": "the step waits for HBM: --config.model.dtype=bfloat16 halves what it moves, if it is not set",
    "compute": "the chip's own work binds: a smaller network or image_size, or more chips",
}


def shown(answer: dict[str, Any]) -> str:
    """One slice: what fits, how long, which resource binds, hours, price, what to change."""
    compiled, seconds, plan = answer["compiled"], answer["predicted"], answer["plan"]
    chip, where, batch = answer["chip"], answer["slice"], answer["batch_size"]
    what = f"{answer['network']}, {answer['image_size']} px, {answer['dtype']}, {answer['method']}"
    data = f"{answer['classes']:,} classes, {answer['images']:,} training images ({answer['sizes']})"
    sizes = f"batch_size={batch}, {answer['rows_a_chip']} rows a chip"
    machines = f"{_number(where['chips'], 'chip')}, {_number(where['hosts'], 'host')}"
    rest = max(seconds["cycles_ms"] * chip["clock"] / 1e3 - compiled["cycles"], 0)
    without = _number(sum(compiled["operations_without_cycles"].values()), "operation")
    counted = f"{compiled['cycles'] / 1e6:,.2f} M cycles, {rest / 1e6:,.2f} M for {without} without"
    computing = f"{counted}, at {chip['clock'] / 1e9:g} GHz"
    peak = f"{compiled['flops'] / 1e9:,.1f} Gflop, {_ms(seconds['compute_ms'])} at the published peak"
    moved = f"{compiled['hbm_bytes'] / 1e9:,.3f} GB of HBM at {chip['bandwidth'] / 1e9:,.0f} GB/s"
    waiting, beside = seconds["interconnect_waiting_ms"], seconds["interconnect_overlapped_ms"]
    table = [
        ("Fits", f"{size(compiled['needed_bytes'])} of {size(compiled['usable_bytes'])} of each chip"),
        ("", _memory(compiled["memory_bytes"])),
        ("Step", f"{_ms(plan['step_ms'])}, {plan['images_a_second']:,} images/s; {plan['binds']} binds"),
        ("  compute", f"{_ms(max(seconds['compute_ms'], seconds['cycles_ms']))}: {computing} ({peak})"),
        ("  memory", f"{_ms(seconds['memory_ms'])}: {moved}"),
        ("  crossing", f"{_ms(waiting)} waiting, {_ms(beside)} while it computes"),
        ("", _crossing(compiled["collectives"])),
        ("  input", _input(plan)),
        ("Epoch", f"{plan['steps_of_an_epoch']:,} steps, {_seconds(plan['epoch_seconds'])}"),
        ("Run", f"{_number(plan['epochs'], 'epoch')}, {_hours(plan)} of training steps{_price(plan)}"),
        ("To change", _advice(answer)),
    ]
    if len(answer["tried"]) > 1:
        tried = ", ".join(f"{one['batch_size']:,} ({size(one['needed_bytes'])})" for one in answer["tried"])
        few = "; there are no more images" if batch + where["chips"] > answer["images"] else ""
        table.insert(0, ("Batches", f"compiled: {tried}; the largest that fits is {batch:,}{few}"))
    return "\n".join(
        [
            f"{what}: {data}",
            f"{answer['topology']}: {machines}; {sizes}",
            *(_wrapped(name, text) for name, text in table),
            "",
            *_origin([answer]),
        ]
    )


_COLUMNS = (
    "slice",
    "chips",
    "batch",
    "memory",
    "step, ms",
    "binds",
    "without input, ms",
    "images/s",
    "run, h",
    "price",
)


def shown_together(answers: Sequence[dict[str, Any]]) -> str:
    """Several slices, a line each."""
    rows = [list(_COLUMNS)]
    for answer in answers:
        chips, batch = str(answer["slice"]["chips"]), f"{answer['batch_size']:,}"
        if not answer["fits"]:
            memory = f"{size(answer['needed_bytes'])} of {size(answer['usable_bytes'])}"
            row = [answer["topology"], chips, batch, memory, "does not fit"]
            rows.append(row + [""] * (len(_COLUMNS) - len(row)))
            continue
        compiled, plan = answer["compiled"], answer["plan"]
        memory = f"{size(compiled['needed_bytes'])} of {size(compiled['usable_bytes'])}"
        price = "" if plan["price"] is None else _amount(plan)
        row = [
            f"{plan['step_ms']:,.2f}",
            plan["binds"],
            f"{answer['predicted']['step_ms']:,.2f}",
            f"{plan['images_a_second']:,}",
            f"{plan['run_hours']:.2f}",
        ]
        rows.append([answer["topology"], chips, batch, memory, *row, price])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    fitting = [answer for answer in answers if answer["fits"]]
    return "\n".join(
        [*lines, "", *_origin(fitting), "One --topology alone prints what each number is made of."]
    )


def _memory(kinds: dict[str, int]) -> str:
    largest = sorted(kinds.items(), key=lambda item: -item[1])
    named = {kind: kind.replace(", ", " and ").replace(" of these", "") for kind in kinds}
    return ", ".join(f"{named[kind]} {size(number)}" for kind, number in largest if number >= 1 << 10)


def _crossing(kinds: dict[str, dict[str, int]]) -> str:
    listed = [
        f"{_number(found['number'], kind)} of {found['bytes'] / 1e6:,.2f} MB" for kind, found in kinds.items()
    ]
    return ", ".join(listed) or "nothing"


def _input(plan: dict[str, Any]) -> str:
    if plan["images_a_second_of_a_core"] is None:
        return "features of a frozen front, computed once: nothing is decoded"
    cores = _number(plan["threads_needed"], "such core")
    return (
        f"{_ms(plan['input_ms'])}: {plan['images_a_second_of_a_core']:,} images/s a core, measured here, "
        f"times data.num_threads={plan['threads']}; "
        f"the slice takes {plan['images_a_second_of_a_host']:,} of each "
        f"host: {cores}"
    )


def _price(plan: dict[str, Any]) -> str:
    if plan["price"] is None:
        return "; --price=DOLLARS of a chip-hour gives its price"
    return f"; {_amount(plan)} at {plan['price_of_a_chip_hour']:g} a chip-hour"


def _amount(plan: dict[str, Any]) -> str:
    if plan["price"] == 0 < plan["price_of_a_chip_hour"]:
        return "less than 0.01"
    return f"{plan['price']:,.2f}"


def _advice(answer: dict[str, Any]) -> str:
    plan = answer["plan"]
    if plan["binds"] != "input":
        return _ADVICE[plan["binds"]]
    return (
        f"the hosts' input binds: --config.data.num_threads={plan['threads_needed']} if they have the cores "
        f"(the step then takes {_ms(answer['predicted']['step_ms'])}), smaller stored images, or fewer chips"
    )


def _origin(answers: Sequence[dict[str, Any]]) -> list[str]:
    """What is predicted, what measured, what published, of all slices that are shown."""
    first, chips = answers[0], {one["chip"]["name"]: one["chip"]["page"] for one in answers}
    took = sum(one["processor_seconds"] for one in answers)
    by = f"libtpu {first['libtpu']} (JAX {first['jax']})"
    pages = ", ".join(chips.values())
    lines = [
        f"Compiled by {by} in {took:.0f} s of processor time; nothing was run.",
        f"Memory, cycles and bytes are the compiler's, the chip's numbers those of {pages}.",
        f"Operations without cycles count by their bytes, or with {LEAST:,} cycles each if that is more.",
        "Times, hours, price are predicted (docs/clusters.md), with links at their published rates.",
        "Not counted: evaluation, saving, the start.",
    ]
    if first["plan"]["images_a_second_of_a_core"] is not None:
        lines.insert(-1, f"Images/s of a core are measured here, on {first['input_measured_on']}.")
    lines += [
        f"The clock of {name} is not published: it is assumed." for name in chips if name in CLOCKS_ASSUMED
    ]
    if any(one["slice"]["number"] > 1 for one in answers):
        lines.append("Between slices the data centre's network is used, for which nothing is predicted.")
    return lines


def _wrapped(name: str, text: str) -> str:
    """A line of the table, or several under each other."""
    return textwrap.fill(f"{name:11} {text}", width=_WIDTH, subsequent_indent=" " * 12)


def _number(number: int, what: str) -> str:
    """So many of something: `_number(2, "host")` is "2 hosts"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else console.duration(seconds)


def _hours(plan: dict[str, Any]) -> str:
    return _seconds(3600 * plan["run_hours"])


def _ms(milliseconds: float) -> str:
    """A time as a person reads it.

    >>> _ms(0.0123), _ms(19.26), _ms(2400.0)
    ('0.012 ms', '19.3 ms', '2,400 ms')
    """
    digits = 3 if milliseconds < 1 else 1 if milliseconds < 1000 else 0
    return f"{milliseconds:,.{digits}f} ms"
