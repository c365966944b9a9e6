"""What crosses devices in a step, and what that costs on paper: weak scaling on simulated devices.

    python benchmarks/collectives.py [--config=demo] [--classes=200] [--rows=8] [--json=FILE]
    python benchmarks/collectives.py --model [--json=FILE]

The step is compiled for 1, 2, 4 and 8 devices with as many rows on each, and its collectives are read from
XLA's text: nothing is run. The peer counts into one (C, C) matrix that every device holds, as code does that
leaves the counts to jit: XLA then reduces a (C, C) matrix in every step.

`--model` reads the operations and collectives of ResNet-50's step in the same way, on 8 devices, and predicts
step times on larger machines from published peak rates and link speeds. `MACHINES` says what is assumed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import keep

from cdml_jax import confusion
from cdml_jax.configuration.load import load_arguments
from cdml_jax.configuration.settings import Settings, changed, defaults
from cdml_jax.data import ArraySource, Classes, Dataset
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed.collectives import Collective, collectives, summary
from cdml_jax.training.program import Program


def nothing(images: int, classes: int) -> ArraySource:
    """Labels alone: a step that is only compiled reads no image, so all are one pixel."""
    pixels = np.broadcast_to(np.uint8(0), (images, 1, 1, 3))
    return ArraySource(pixels, np.arange(images) % classes)


def program_of(config: Settings, classes: int, devices: int, rows: int) -> Program:
    """A program with `rows` on each of so many devices."""
    config = changed(config, {"batch_size": rows * devices, "model.weights": ""})
    images = nothing(max(4 * config.batch_size, classes), classes)
    dataset = Dataset("nothing", Classes(tuple(map(str, range(classes)))), {"train": images})
    return Program(config, dataset, jax.devices()[:devices])


def step_collectives(program: Program) -> tuple[list[Collective], float]:
    """Collectives of the compiled step, and one device's floating-point operations, as XLA counts them."""
    arguments = program.abstract_state(), program.abstract_batch(), program.abstract_costs()
    compiled = program.step.lower(*arguments).compile()
    return collectives(compiled.as_text()), compiled.cost_analysis()["flops"]


def peer_collectives(program: Program, classes: int) -> list[Collective]:
    """Collectives of adding a step's soft predictions to one (C, C) matrix that every device holds."""
    whole, rows = mesh_lib.replicated(program.mesh), mesh_lib.split_rows(program.mesh)
    size = program.config.batch_size

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=whole)
    def update(counts, labels, logits):
        return confusion.update(counts, labels, jax.nn.softmax(logits))

    arguments = (
        jax.ShapeDtypeStruct((classes, classes), jnp.float32, sharding=whole),
        jax.ShapeDtypeStruct((size,), jnp.int32, sharding=rows),
        jax.ShapeDtypeStruct((size, classes), jnp.float32, sharding=rows),
    )
    return collectives(update.lower(*arguments).compile().as_text())


def weak_scaling(config: Settings, classes: int, rows: int) -> dict:
    """Collectives for 1, 2, 4 and 8 devices, ours and the peer's."""
    table = []
    for devices in (1, 2, 4, 8):
        program = program_of(config, classes, devices, rows)
        ours, peer = step_collectives(program)[0], peer_collectives(program, classes)
        table.append(
            {
                "devices": devices,
                "kinds": summary(ours),
                "sent": round(sum(one.sent for one in ours)),
                "of_parameters": sum(
                    leaf.size * leaf.dtype.itemsize
                    for leaf in jax.tree.leaves(program.abstract_state().parameters)
                ),
                "peer_sent_more": round(sum(one.sent for one in peer)),
            }
        )
        print(f"{devices} devices: {table[-1]['sent']} bytes sent by each, {table[-1]['kinds']}")
    return {
        "question": "bytes that each device sends in a step, with as many rows on each",
        "network": config.model.name,
        "image_size": config.image.image_size,
        "rows": rows,
        "classes": classes,
        "embedding_size": config.model.embedding_size,
        "table": table,
        "jax": jax.__version__,
    }


@dataclasses.dataclass(frozen=True)
class Machine:
    """Published rates, and what is assumed about how much of them is reached.

    Attributes:
      name: as shown.
      devices: of the whole machine.
      node: devices that share the fast links; all of them on a TPU slice.
      peak: dense bfloat16 operations a second of a device.
      inside, between: bytes a second that a device sends inside a node, and to other nodes.
      utilization: assumed share of `peak` that ResNet-50's convolutions reach.
      of_links: assumed share of the links' rates.
      latency: assumed seconds that each collective takes besides its bytes.
    """

    name: str
    devices: int
    node: int
    peak: float
    inside: float
    between: float
    utilization: float
    of_links: float
    latency: float

    def seconds(self, one: Collective, size: float) -> float:
        """Time of a collective whose gathered or reduced array has `size` bytes."""
        passes = 2 if one.kind == "all-reduce" else 1
        nodes = self.devices // self.node
        inside = passes * size * (self.node - 1) / self.node / self.inside
        # Each device of a node exchanges its share of what the node has reduced, or gathers.
        between = passes * size / self.node * (nodes - 1) / nodes / self.between
        return one.times * (self.latency + (inside + between) / self.of_links)


MACHINES = (
    # 400 GB/s of ICI per chip both ways together; 51.2 TB/s of all-reduce in a pod are 200 GB/s per chip.
    Machine("TPU v5e-256", 256, 256, 197e12, 200e9, math.inf, 0.25, 0.7, 30e-6),
    # 900 GB/s of NVLink both ways together; one 400 Gb/s port of NDR InfiniBand per GPU.
    Machine("8 x 8 H100", 64, 8, 989e12, 450e9, 50e9, 0.10, 0.7, 40e-6),
)


def on_paper(name: str, classes: int, rows: int) -> list[dict]:
    """Predicted step of ResNet-50 at 224 pixels with embeddings of 128, on each machine."""
    small = 2  # rows a device while compiling: operations and gathered rows grow with them
    large = {"model.name": "resnet50", "model.embedding_size": 128, "model.dtype": "bfloat16"}
    config = changed(defaults(), large | {"image.image_size": 224, "confusion.storage": "dense"})
    program = program_of(config, classes, 8, small)
    found, operations = step_collectives(program)
    table = []
    for machine in MACHINES:
        batch = rows * machine.devices

        def whole(one: Collective, batch: int = batch) -> float:
            # Sums over rows keep their size; gathered and scattered rows grow with the batch.
            if one.kind == "all-reduce":
                return one.bytes
            return one.bytes * (one.devices if one.kind == "reduce-scatter" else 1) * batch / (8 * small)

        compute = operations / small * rows / (machine.peak * machine.utilization)
        crossing = sum(machine.seconds(one, whole(one)) for one in found)
        latency = sum(one.times for one in found) * machine.latency
        matrix = machine.seconds(Collective("all-reduce", (), 0, machine.devices, 1, ""), 4 * classes**2)
        table.append(
            {
                "set": name,
                "classes": classes,
                "machine": machine.name,
                "rows": rows,
                "batch": batch,
                "gigaflop_per_image": round(operations / small / 1e9, 1),
                "collectives": sum(one.times for one in found),
                "reduced_bytes": sum(one.bytes for one in found if one.kind == "all-reduce"),
                "rows_bytes": round(sum(whole(one) for one in found if one.kind != "all-reduce")),
                "compute_ms": round(1e3 * compute, 2),
                "crossing_ms": round(1e3 * crossing, 2),
                "latency_ms": round(1e3 * latency, 2),
                "efficiency": round(compute / (compute + crossing), 3),
                "images_per_second": round(batch / (compute + crossing)),
                "matrix_ms": round(1e3 * matrix, 2),
                "peer_efficiency": round(compute / (compute + crossing + matrix), 3),
            }
        )
        print(table[-1])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="demo")
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--rows", type=int, default=8, help="on each device")
    parser.add_argument("--model", action="store_true", help="predict larger machines in place of measuring")
    parser.add_argument("--json", type=Path)
    options, overrides = parser.parse_known_args()
    jax.config.update("jax_num_cpu_devices", 8)
    if options.model:
        sizes = (("CUB", 200), ("iNaturalist", 10_000))
        result = {
            "question": "step time and efficiency predicted for ResNet-50",
            "network": "resnet50",
            "image_size": 224,
            "embedding_size": 128,
            "machines": [
                dataclasses.asdict(machine)
                | {"between": None if machine.between == math.inf else machine.between}
                for machine in MACHINES
            ],
            "table": [line for name, classes in sizes for line in on_paper(name, classes, 64)],
            "jax": jax.__version__,
        }
    else:
        config = load_arguments([f"--config={options.config}", *overrides]).settings
        result = weak_scaling(config, options.classes, options.rows)
    keep(result, options.json)


if __name__ == "__main__":
    main()
