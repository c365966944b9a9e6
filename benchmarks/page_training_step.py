"""Sections of docs/performance.md: the training step, what saving costs, what was changed."""

from __future__ import annotations

_STEP = (
    "A step computes the joint objective (weighted softmax, triplets drawn in proportion to the pair "
    "weights, soft confusion counts), its gradient, clipping, the optimiser and batch statistics. It is "
    "compared with the same step in PyTorch on the same device "
    "([training_step.py](../benchmarks/training_step.py)); ours also computes the metrics that `cdml train` "
    "logs. Each side is a process of its own with memory in huge pages, and the two take turns. A ratio is "
    "the time of PyTorch's variant divided by ours in the same turns; the variant with the lowest ratio is "
    "the one to compare with, in bold. Processor time is the sum over all cores, which other programs "
    "disturb less. The aim is 1.0 on a CPU and 1.15 on a GPU."
)
_STEP_COLUMNS = """\
| network | PyTorch | PyTorch, ms | ours, ms | ratio | quartiles | PyTorch, processor ms | ratio |
|---|---|---:|---:|---:|---|---:|---:|"""


def training_step(results: list[dict]) -> str:
    """Our step beside every variant of PyTorch's."""
    lines = ["## The training step", "", _STEP]
    for r in results:
        lines += ["", _STEP_COLUMNS]
        for case in r["cases"]:
            for name, side in case["variants"].items():
                low, high = side["ratio_quartiles"]
                ratio = f"{side['ratio']:.2f}"
                lines.append(
                    f"| {case['network']} | {name} | {side['ms']:,.1f} | {side['ours_ms']:,.1f} "
                    f"| {f'**{ratio}**' if name == case['best_variant'] else ratio} "
                    f"| {low:.2f} to {high:.2f} | {side['processor_ms']:,.1f} "
                    f"| {side['processor_ratio']:.2f} |"
                )
        lines.append("")
        for case in r["cases"]:
            lines.append(_described(case))
            lines += [
                f'- For {case["network"]}, "{name}" was left out ({why}).'
                for name, why in case["skipped"].items()
            ]
        first = r["cases"][0]
        torch = next(iter(first["variants"].values()))["torch"]
        measured = (
            f"Figures are medians of {r['repeats']} turns on {first['device']} ({first['machine']}), "
            f"{first['cores']} cores, with JAX {first['jax']} and PyTorch {torch}; the load average was "
            f"{first['load'][0]} when it began."
        )
        lines += ["", measured]
    return "\n".join(lines) + "\n"


def _described(case: dict) -> str:
    text = (
        f"- {case['network']}: {case['image_size']} px, batch {case['batch_size']}, {case['dtype']}, "
        f"{case['parameters']:,} parameters, {case['triplets']} triplets, {case['optimizer']}; ours on "
        f"{case['devices']} device{'s' * (case['devices'] > 1)}"
    )
    if "flop" in case:
        text += (
            f"; {case['flop'] / 1e12:.2f} Tflop a step, {case['peak_flop_per_second'] / 1e12:,.0f} Tflop/s "
            f"in a large matrix product: ours reaches {case['share_of_peak']:.0%} of it, PyTorch "
            f"{case['peer_share_of_peak']:.0%}"
        )
    return text + "."


_SAVING = (
    "Epochs with and without checkpoints alternate in one process, and the table gives what checkpoints add "
    '([checkpoint_cost.py](../benchmarks/checkpoint_cost.py)), from the least to the most. "In the loop" is '
    'the share of an epoch for which training stood still to save; "whole" also includes the slower steps '
    "while a save is written, and the machine's noise."
)
_SAVING_COLUMNS = """\
| set | image | batch | epoch, s | a save every, s | in the loop, % | processor time, % | whole, % | device \
| JAX |
|---|---:|---:|---:|---:|---|---|---|---|---|"""


def checkpoint_cost(results: list[dict]) -> str:
    """What saving costs."""
    lines = ["## What saving costs", "", _SAVING, "", _SAVING_COLUMNS]
    for r in results:
        percents = [
            ", ".join(f"{value:.1f}" for value in r[f"{name}_percent"])
            for name in ("in_the_loop", "processor_time", "whole")
        ]
        lines.append(
            f"| {r['source']} | {r['image_size']} px | {r['batch_size']} | {r['epoch_seconds']} "
            f"| {r['every_seconds']:g} | {' | '.join(percents)} | {r['device']} ({r['machine']}) "
            f"| {r['jax']} |"
        )
    return "\n".join(lines) + "\n"


CHANGES = """\
## Changes to the step, with what they were expected to do

These changes were found with `jax.profiler` on an AMD EPYC with AVX-512, in float32 with JAX 0.10.2. Times
are of forward and backward together. The first two items were measured on two quiet cores, the others on
one, unless an item says otherwise.

- **1 x 1 convolutions as matrix products of two dimensions, the depthwise kernel's gradient by rows**
  (`models/convolution.py`). Expected: the time of MobileNetV2's step at 128 px, batch 32, halves, because
  XLA's gradients with respect to kernels copied every image transposed or wrote every shifted image to
  memory. Found: 31.6 ms per image before and 17.4 after. Depthwise convolutions in XLA's grouped form take
  four times as long as in the form of shifts.
- **Memory in huge pages** (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, read when a process starts, so `cdml`
  starts itself again). Expected: less time in the operating system's kernel, because each step allocates
  its temporaries again. Found: from 17.4 ms to 11.2. PyTorch gains too, from 11.6 to 9.0 with
  `THP_MEM_ALLOC_ENABLE=1`; on this page both use huge pages.
- **Few channels two columns at a time** (`models/convolution.py`). XLA gives convolutions to its library
  (YNNPACK) only if there are more than 16 channels on one side: those of `small_resnet` with 12 and 16
  channels ran at 27 and 52 Gflop/s, the others at 95 out of 104. With a kernel that is one column wider and
  has twice the outputs, they need a third more operations but run in the library. Expected: a step that is
  a tenth shorter. Found: the stem went from 4.0 ms to 2.1, a 16 x 16 convolution from 3.5 to 2.8, and
  `small_resnet` at 56 px, batch 48, from 71 ms to 66 of processor time (7 %).
- **Depthwise gradients with fewer passes** (`models/convolution.py`). The gradient for the images is now
  one sum of shifted copies of the outputs' gradient, which is spread out once, in place of nine padded
  copies. It took 36 of 309 ms (MobileNetV2, 128 px, 16 images, one core). Expected: a third of that. Found:
  14 ms. All nine places of the kernel's gradient are now computed in one reduction with nine results, which
  reads the images once, in place of nine reductions. Expected: half of 48 ms. Found: 31 ms. Without its
  loop over rows, the reduction is faster by itself but slower in the network, because XLA then computes the
  gradient of the outputs a second time inside it.
- **Batch norm as one product and one sum** (`models/layers.py`), so that the backward pass needs the
  convolution's output, which is stored anyway, and not the output minus its mean, which would be a second
  copy of every activation. Expected: 15 ms less, the time for writing that copy. Found: from 255 ms to 232
  (the reductions also read less).
- **A processor as two devices** (`mesh.cpu_devices`, the demo's). XLA divides one operation after the other
  among the cores, and the cores are idle in between: `small_resnet` spent 71 ms of processor time in 48 ms
  on two cores. Expected: with one device per core, each of which computes half of the rows from end to end,
  the time comes close to half of the processor time. Found: from 44 ms to 35, with the items above.
  MobileNetV2, whose operations are larger, is equally fast both ways.
- **Depthwise convolutions as sums of shifted images on NVIDIA GPUs too** (`models/convolution.py`).
  Expected: memory-bound kernels that XLA fuses, in place of grouped convolutions, which are slow in cuDNN.
  Found on an H100 (JAX 0.11.2, CUDA 13, all of EfficientNet-Lite0, 144 px, 200 classes, float32): 14.3 ms
  for 64 images and 17.7 for 128, with the kernel's gradient as one sum for each place. For 64 images it
  took 16.1 ms with that gradient computed in pieces, as on a CPU, or as JAX derives it. With eight
  compilations at a time on 16 cores, neither the step with XLA's grouped convolutions nor any form in
  bfloat16 had been compiled after 110 s; with one to five at a time, compilation takes 28 to 57 s in
  float32. A step of 64 images is limited by the launch of its kernels: with five processes on one GPU, a
  step takes five times as long.
- **Tried and left out.** `--xla_cpu_prefer_vector_width=512` and `--xla_cpu_enable_fast_math` change the
  time by less than 3 %. A batch norm with a gradient of its own is a fifth slower, because XLA computes it
  again in each place that reads it. Padding 16 channels to 20 takes between three quarters of the time and
  twice the time, from run to run. Gathering columns for one product takes 1.3 to 2.2 times the time. The
  transposed copies in the kernels' gradients compute batch norm again; an optimisation barrier before these
  gradients does not prevent this, because XLA removes it before it fuses, and a branch of `jax.lax.cond` in
  its place takes 20 times the time. The input gradients of strided convolutions run at 50 to 90 Gflop/s and
  were left as they are.
"""
