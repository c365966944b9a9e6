"""The triplet term, forward and backward: ours beside pytorch-metric-learning, optax and a naive cube.

    python benchmarks/triplet_term.py [--batches=256,512,1024,2048,4096] [--repeats=9] [--json=FILE]

Embeddings of length 1, random; four images of each class. The estimators differ: ours and
`triplets_per_anchor` draw four triplets for each image, the semi-hard pair takes all those triplets of the
batch that are semi-hard, batch-hard one for each image, the cube all. So do their values; the time is that of
one training step's term: the choice of triplets, the loss, and its gradient by the embeddings.

The peers get the faster of their distances for such embeddings, products: 2 - 2 g·h is the squared distance,
so that a margin of 0.1 on products is ours of 0.2. Where optax is named, we draw and it computes the loss.
A side that took over `--most` seconds for a call is left out of larger batches, by name, and so is the cube
where its temporaries pass 4 GB.

Memory: of a JAX program the temporaries that its compiler plans; of torch, how far the resident size of a
process of its own rises in one call, after one of 64 rows.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import alternate, compare, keep, machine, milliseconds, missing_peers

from cdml_jax import confusion, confusion_triplet_loss, masked_mean, sample_triplets, triplet_margin_loss
from cdml_jax.sampling.mining import batch_hard_triplets, semi_hard_triplets

SIZE, IMAGES_PER_CLASS, MARGIN, PER_IMAGE = 128, 4, 0.2, 4
OURS = "confusion_triplet_loss"
SEMI_HARD, BATCH_HARD = "pytorch-metric-learning, semi-hard", "pytorch-metric-learning, batch-hard"
PER_ANCHOR = "pytorch-metric-learning, triplets_per_anchor=4"
CUBE, CUBE_BYTES = "all triplets, naive JAX", 4e9
TORCH = (SEMI_HARD, PER_ANCHOR, BATCH_HARD)


def batch_of(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Random embeddings of length 1 and shuffled labels."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(rows, SIZE)).astype(np.float32)
    labels = rng.permutation(np.repeat(np.arange(rows // IMAGES_PER_CLASS), IMAGES_PER_CLASS))
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), labels


def chosen(embeddings: jax.Array, triplets) -> tuple[jax.Array, jax.Array]:
    """Losses of triplets, and which are valid."""
    rows = (embeddings[rows] for rows in triplets[:3])
    return triplet_margin_loss(*rows, margin=MARGIN), triplets.valid


def cube(embeddings: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What one writes first: the hinge of all (B, B, B) triplets, masked."""
    distances = 2 - 2 * embeddings @ embeddings.T
    same = labels[:, None] == labels[None, :]
    positives = same & ~jnp.eye(labels.size, dtype=bool)
    losses = jax.nn.relu(distances[:, :, None] - distances[:, None, :] + MARGIN)
    return losses, positives[:, :, None] & ~same[:, None, :]


def jax_terms(rows: int) -> dict[str, Callable]:
    """Losses and which of them count, of a key, embeddings, labels and the pairs' weights."""
    number = PER_IMAGE * rows

    def ours(key, embeddings, labels, pairs):
        return confusion_triplet_loss(key, embeddings, labels, pairs, num_triplets=number, margin=MARGIN)

    def semi_hard(key, embeddings, labels, pairs):
        return chosen(embeddings, semi_hard_triplets(embeddings, labels, num_triplets=number))

    def batch_hard(key, embeddings, labels, pairs):
        return chosen(embeddings, batch_hard_triplets(embeddings, labels, num_triplets=rows))

    def by_optax(key, embeddings, labels, pairs):
        triplets = sample_triplets(key, labels, pairs, num_triplets=number)
        rows = (embeddings[rows] for rows in triplets[:3])
        return optax.losses.triplet_margin_loss(*rows, margin=MARGIN), triplets.valid

    terms = {OURS: ours, "semi_hard_triplets (ours)": semi_hard, "batch_hard_triplets (ours)": batch_hard}
    try:
        import optax

        terms["optax, triplets drawn by us"] = by_optax
    except ImportError:
        print("optax: skipped, not installed")
    return terms | {CUBE: lambda key, embeddings, labels, pairs: cube(embeddings, labels)}


def jax_sides(rows: int) -> dict[str, tuple[Callable, int]]:
    """Compiled sides, each with the bytes of its temporaries."""
    embeddings, labels = map(jnp.asarray, batch_of(rows))
    classes = rows // IMAGES_PER_CLASS
    counts = np.random.default_rng(1).integers(0, 20, (classes, classes))
    pairs = confusion.pair_weights(counts)

    def value(embeddings, key, labels, pairs, *, term):
        return masked_mean(*term(key, embeddings, labels, pairs))

    sides = {}
    for name, term in jax_terms(rows).items():
        function = jax.jit(jax.value_and_grad(functools.partial(value, term=term)))
        arguments = (embeddings, jax.random.key(0), labels, pairs)
        program = function.lower(*arguments).compile()
        loss, gradient = jax.block_until_ready(program(*arguments)) if name != CUBE else (1, 1)
        if not (np.isfinite(loss) and np.any(gradient)):
            raise RuntimeError(f"{name}: the loss is {loss}, or its gradient zero")
        call = functools.partial(call_and_wait, program, arguments)
        sides[name] = (call, program.memory_analysis().temp_size_in_bytes)
    return sides


def call_and_wait(program: Callable, arguments: tuple) -> object:
    """What a compiled program finds, when it is there."""
    return jax.block_until_ready(program(*arguments))


def torch_side(name: str, rows: int) -> Callable[[], object]:
    """One of pytorch-metric-learning's pairs of a miner and the loss."""
    import torch
    from pytorch_metric_learning import distances, losses, miners

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    embeddings, labels = (torch.as_tensor(array, device=device) for array in batch_of(rows))
    products = distances.DotProductSimilarity(normalize_embeddings=False)
    # The margin of products: half that of squared distances.
    make_miner = {
        SEMI_HARD: lambda: miners.TripletMarginMiner(MARGIN / 2, "semihard", distance=products),
        BATCH_HARD: lambda: miners.BatchHardMiner(distance=products),
        PER_ANCHOR: lambda: None,
    }
    miner = make_miner[name]()
    per_anchor = PER_IMAGE if name == PER_ANCHOR else "all"
    loss_of = losses.TripletMarginLoss(MARGIN / 2, distance=products, triplets_per_anchor=per_anchor)

    def call() -> object:
        leaf = embeddings.clone().requires_grad_()
        loss = loss_of(leaf, labels, miner(leaf, labels) if miner else None)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss, leaf.grad

    return call


def print_torch_memory(name: str, rows: int) -> None:
    """For a process of its own: bytes by which its resident size rose at most in one call; Linux alone."""
    torch_side(name, 64)()
    side = torch_side(name, rows)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again; getrusage's is the parent's
    before = _resident()["VmRSS"]
    side()
    print(_resident()["VmHWM"] - before)


def _resident() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[0] in ("VmRSS:", "VmHWM:")}


def torch_memory(name: str, rows: int) -> int | None:
    """Bytes of a peer on the CPU, or None where they could not be measured."""
    command = [sys.executable, __file__, f"--batches={rows}", f"--memory-of={name}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return int(found.stdout.split()[-1]) if found.returncode == 0 else None


def measure(rows: int, tired: dict[str, str], options: argparse.Namespace) -> dict:
    """All sides at one batch; adds to `tired` those to be left out of larger ones."""
    skipped = dict(tired)
    sides: dict[str, Callable] = {}
    memory: dict[str, int | None] = {}
    for name, (call, temporaries) in jax_sides(rows).items():
        memory[name] = temporaries
        if name == CUBE and temporaries > CUBE_BYTES:
            skipped[name] = f"needs {temporaries / 1e9:.0f} GB"
        elif name not in skipped:
            sides[name] = call
    for name in TORCH:
        if name in skipped:
            continue
        try:
            sides[name] = torch_side(name, rows)
        except ImportError as error:
            skipped[name] = f"{error.name} is not installed"
            continue
        memory[name] = torch_memory(name, rows) if jax.default_backend() == "cpu" else None
    seconds = alternate(sides, repeats=options.repeats, most=options.most)
    found = {}
    for name, taken in seconds.items():
        found[name] = {"ms": milliseconds(taken), "best_ms": round(1e3 * min(taken), 3)}
        found[name] |= {**compare(taken, seconds[OURS]), "bytes": memory[name]}
        print(f"B {rows:>5}  {name:<48} {found[name]['ms']:>10} ms {found[name]['ratio']:>9} x", flush=True)
        if min(taken) > options.most:
            tired[name] = f"took {min(taken):.0f} s at B = {rows:,}"
    for name, reason in skipped.items():
        print(f"B {rows:>5}  {name}: skipped, {reason}")
    return {"batch": rows, "sides": found, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", default="256,512,1024,2048,4096")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--most", type=float, default=20, help="seconds that a side may take in all")
    parser.add_argument("--memory-of", choices=TORCH, help="print the bytes that this peer takes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    batches = sorted(int(rows) for rows in options.batches.split(","))
    if options.memory_of:
        return print_torch_memory(options.memory_of, batches[0])
    tired: dict[str, str] = {}
    cases = [measure(rows, tired, options) for rows in batches]
    result = {
        "question": "The triplet term, forward and backward",
        "size": SIZE,
        "images_per_class": IMAGES_PER_CLASS,
        "triplets_per_image": PER_IMAGE,
        **machine(),
        "cases": cases,
    }
    print({name: value for name, value in result.items() if name != "cases"})
    keep(result, options.json, missing_peers(cases))
    return None


if __name__ == "__main__":
    main()
