"""Sections of docs/performance.md: the training step, what saving costs, what was changed."""

from __future__ import annotations

_STEP = (
    "The joint objective (weighted softmax, triplets drawn in proportion to the pair weights, soft confusion "
    "counts), its gradient, clipping, the optimiser and batch statistics, beside the same step in PyTorch on "
    "the same device ([training_step.py](../benchmarks/training_step.py)); ours also has the metrics that "
    "`cdml train` logs. Each side is a process of its own with memory in huge pages, and the two take turns. "
    "A ratio is the variant's time over ours in the same turns; of PyTorch's variants the one with the "
    "lowest is the peer, in bold. Processor time is what all cores spent, which other programs disturb less. "
    "The aim is 1.0 on a CPU, 1.15 on a GPU."
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
            lines += [f"- {case['network']} without {name}: {why}." for name, why in case["skipped"].items()]
        first = r["cases"][0]
        torch = next(iter(first["variants"].values()))["torch"]
        measured = (
            f"Medians of {r['repeats']} turns. {first['device']} ({first['machine']}), {first['cores']} "
            f"cores, JAX {first['jax']}, PyTorch {torch}; load average {first['load'][0]} when it began."
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
    "An epoch with checkpoints over one without, in turn, in one process "
    "([checkpoint_cost.py](../benchmarks/checkpoint_cost.py)), from the least to the most. In the loop: the "
    "share of an epoch for which training stood still to save; the whole has the slower steps while a save "
    "is written, and the machine's noise."
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

Found with `jax.profiler` on an AMD EPYC with AVX-512, float32, JAX 0.10.2; forward and backward, the first
two items on two quiet cores, the others on one.

- **1 x 1 convolutions as matrix products of two dimensions, the depthwise kernel's gradient by rows**
  (`models/convolution.py`). Expected: MobileNetV2's step at 128 px, batch 32, halves, for XLA's gradients
  with respect to kernels copied every image transposed or wrote every shifted image to memory. Found: 31.6
  ms an image before, 17.4 after. Depthwise convolutions as XLA's grouped ones take four times as long as
  shifts.
- **Memory in huge pages** (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, read when a process starts, so `cdml`
  starts itself again). Expected: less time in the kernel, for each step asks for its temporaries again.
  Found: 17.4 ms to 11.2. PyTorch gains too, 11.6 to 9.0 with `THP_MEM_ALLOC_ENABLE=1`; both have it here.
- **Few channels two columns at a time** (`models/convolution.py`). XLA gives convolutions to its library
  (YNNPACK) only if there are more than 16 channels on one side: those of `small_resnet` with 12 and 16 ran
  at 27 and 52 Gflop/s, the others at 95 of 104. As a kernel one column wider with twice the outputs they do
  a third more operations in the library. Expected: a tenth off the step. Found: the stem 4.0 ms to 2.1, a
  16 x 16 convolution 3.5 to 2.8, `small_resnet` at 56 px, batch 48, 71 ms to 66 of processor time (7 %).
- **Depthwise gradients with fewer passes** (`models/convolution.py`). The images' gradient as one sum of
  shifted copies of the outputs' gradient, spread out once, in place of nine padded ones: expected a third of
  its 36 of 309 ms (MobileNetV2, 128 px, 16 images, one core), found 14. All nine places of the kernel's
  gradient in one reduction of nine results, which reads the images once, in place of nine reductions:
  expected half of 48 ms, found 31. Without its loop over rows the reduction is faster alone and slower in
  the network, for XLA then computes the gradient of the outputs a second time inside it.
- **Batch norm as one product and one sum** (`models/layers.py`), so that the backward pass needs the
  convolution's output, which is there, and not the output less its mean, a second copy of every activation.
  Expected: 15 ms off, the time of writing it. Found: 255 to 232 (the reductions read less too).
- **A processor as two devices** (`mesh.cpu_devices`, the demo's). XLA divides one operation after the other
  among the cores and leaves them idle between: `small_resnet` spent 71 ms of processor time in 48 ms on two
  cores. Expected: a device for each core, which computes half of the rows from end to end, comes near to
  half. Found: 44 ms to 35, with the items above; MobileNetV2, whose operations are larger, is as fast
  either way.
- **Depthwise convolutions as sums of shifted images on NVIDIA GPUs too** (`models/convolution.py`).
  Expected: memory-bound kernels that XLA fuses, in place of grouped convolutions that cuDNN is slow at.
  Found on an H100 (JAX 0.11.2, CUDA 13, EfficientNet-Lite0 whole, 144 px, 200 classes, float32): 14.3 ms
  for 64 images and 17.7 for 128, with the kernel's gradient as one sum for each place; 16.1 for 64 with
  that gradient by pieces, as on a CPU, or as JAX derives it. With XLA's grouped convolutions the step was
  not compiled after 110 s, nor was any form in bfloat16, eight compilations at a time on 16 cores; one to
  five at a time take 28 to 57 s in float32. A step of 64 images is bound by the launch of its kernels: five
  processes on one GPU take five times as long.
- **Tried and left out.** `--xla_cpu_prefer_vector_width=512` and `--xla_cpu_enable_fast_math`: within 3 % of
  the time without. A batch norm with a gradient of its own: XLA computes it again in each place that reads
  it, a fifth slower. Padding 16 channels to 20: between three quarters of the time and twice the time,
  from run to run. Columns gathered for one product: 1.3 to 2.2 times the time. An optimisation barrier before
  the kernels' gradients, whose transposed copies compute batch norm again: XLA drops it before it fuses.
  The same as a branch of `jax.lax.cond`: 20 times the time. Left as they are: input gradients of strided
  convolutions, which run at 50 to 90 Gflop/s.
"""
