"""Compact bilinear pooling, forward and backward, beside PyTorch's tensor sketch by Fourier transforms.

    python benchmarks/bilinear_pooling.py [--repeats=15] [--turn=1.0] [--json=FILE]

Each side is a process of its own with all cores, and they take turns. Both pool the same maps, of 14 x 14
positions with 512 channels, to 8,192 numbers by the same hashes (the mean over the positions, the signed
square root, length 1), and give the gradient of a weighted sum of them to the map. PyTorch's results are
compared with ours before anything is timed.

PyTorch goes back from the Fourier transform after the sum over the positions or, as public code does, before
it; the faster is the peer. Both sketch by `index_add`: a product with the matrix that adds took 1.6 times as
much processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import Seconds, Side, SkippedError, in_turn, serve

BATCH, SIDE, CHANNELS, SIZE = 16, 14, 512, 8192
# Whether there is one inverse transform, of the sum over the positions.
VARIANTS = {"one inverse": True, "inverse at each position": False}


def begin(folder: Path) -> tuple[Callable[[int], object], dict]:
    """Our side; leaves in the folder the maps, the hashes and what is found."""
    import jax
    import jax.numpy as jnp
    from side_by_side import machine

    from cdml_jax.models.heads import l2_normalize
    from cdml_jax.models.parts.bilinear import EPSILON, hashes, signed_root, tensor_sketch

    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(BATCH, SIDE * SIDE, CHANNELS)), 0).astype(np.float32)
    weights = rng.normal(size=(BATCH, SIZE)).astype(np.float32)

    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        pooled = l2_normalize(signed_root(tensor_sketch(x, SIZE, jnp.dtype("float32"))))
        return (pooled * weights).sum(), pooled

    pool = jax.jit(jax.value_and_grad(loss, has_aux=True))
    x = jnp.asarray(maps)
    (_, pooled), gradient = pool(x)
    drawn = hashes(CHANNELS, SIZE)._asdict()
    found = {"maps": maps, "weights": weights, "pooled": pooled, "gradient": gradient, "epsilon": EPSILON}
    np.savez(folder / "maps.npz", **found, **drawn)

    def run(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(pool(x))

    run(3)
    return run, machine()


def begin_torch(folder: Path, variant: str) -> tuple[Callable[[int], object], dict]:
    """The peer's side: the same results, or it is refused."""
    import torch

    given = np.load(folder / "maps.npz")
    x = torch.from_numpy(given["maps"]).requires_grad_()
    weights, epsilon = torch.from_numpy(given["weights"]), float(given["epsilon"])
    first = VARIANTS[variant]
    places = [torch.from_numpy(given[name].astype(np.int64)) for name in ("place1", "place2")]
    signs = [torch.from_numpy(given[name]) for name in ("sign1", "sign2")]

    def transformed(rows: Any, which: int) -> Any:
        sketch = rows.new_zeros(*rows.shape[:-1], SIZE)
        sketch = sketch.index_add(2, places[which], rows * signs[which])
        return torch.fft.rfft(sketch)

    def pool() -> tuple[Any, Any]:
        product = transformed(x, 0) * transformed(x, 1)
        sketch = (
            torch.fft.irfft(product.mean(1), n=SIZE) if first else torch.fft.irfft(product, n=SIZE).mean(1)
        )
        root = sketch.sign() * ((sketch.abs() + epsilon).sqrt() - epsilon**0.5)
        pooled = torch.nn.functional.normalize(root)
        (gradient,) = torch.autograd.grad((pooled * weights).sum(), x)
        return pooled, gradient

    for ours, theirs in zip((given["pooled"], given["gradient"]), pool()):
        apart = np.linalg.norm(ours - theirs.detach().numpy()) / np.linalg.norm(ours)
        if not apart < 0.01:  # float32; near 0 the root's derivative is 158
            raise ValueError(f"results differ by {apart:.1e}")

    def run(times: int) -> None:
        for _ in range(times):
            pool()

    run(2)
    return run, {"torch": torch.__version__, "threads": torch.get_num_threads()}


def measure(repeats: int, turn: float) -> dict:
    """Ours beside every variant of the peer, in turn."""
    from side_by_side import compare, milliseconds

    sides: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    of_ours: list[Seconds] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"--serve={folder}"]
        with Side(command, {}) as ours:
            about = ours.facts
            for name in VARIANTS:
                try:
                    with Side([*command, f"--variant={name}"], {}) as peer:
                        taken, other = in_turn(ours, peer, repeats=repeats, turn=turn)
                        facts = peer.facts
                except SkippedError as reason:
                    skipped[name] = str(reason)
                    continue
                of_ours += taken
                clock = [one.whole for one in other], [one.whole for one in taken]
                processor = [one.processor for one in other], [one.processor for one in taken]
                sides[name] = {
                    "ms": milliseconds(clock[0]),
                    "ours_ms": milliseconds(clock[1]),
                    **compare(*clock),
                    "processor_ms": milliseconds(processor[0]),
                    "processor_ratio": compare(*processor)["ratio"],
                    **facts,
                }
                print(f"{name:<38} {json.dumps(sides[name])}", flush=True)
    found = {"batch": BATCH, "side": SIDE, "channels": CHANNELS, "size": SIZE, **about}
    if sides:
        best = min(sides, key=lambda name: sides[name]["ratio"])
        found |= {
            "ours_ms": round(1e3 * statistics.median(one.whole for one in of_ours), 3),
            "ours_processor_ms": milliseconds([one.processor for one in of_ours]),
            "best_variant": best,
            "ratio": sides[best]["ratio"],
            "ratio_quartiles": sides[best]["ratio_quartiles"],
            "processor_ratio": sides[best]["processor_ratio"],
        }
    return {**found, "variants": sides, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--turn", type=float, default=1.0, help="seconds, about")
    parser.add_argument("--serve", type=Path, help="be a side, for another process of this script")
    parser.add_argument("--variant", help="which one of the peer, with --serve")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.serve:
        variant = options.variant
        return serve(lambda: begin_torch(options.serve, variant) if variant else begin(options.serve))
    from side_by_side import keep

    case = measure(options.repeats, options.turn)
    result = {"question": "Compact bilinear pooling, forward and backward", "repeats": options.repeats}
    keep(result | {"cases": [case]}, options.json, "" if case["variants"] else "no peer was measured")
    return None


if __name__ == "__main__":
    main()
