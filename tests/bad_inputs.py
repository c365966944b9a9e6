"""What people give by mistake: folders, images, lists, weights and workdirs, each made afresh."""

import fcntl
import io
import json
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.load import load_arguments
from cdml_jax.models.weights.files import SHIPPED_FOLDER
from cdml_jax.runs import workdir
from cdml_jax.system.archives import sealed

CLASSES = ("crow", "owl")
ROWS = "".join(f"{name}/{k}.png,{label}\n" for label, name in enumerate(CLASSES) for k in range(6))


def picture(seed, height=20, width=24):
    """A small picture unlike any other seed's."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    """The bytes of a picture in a format of Pillow's."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def photographs(root):
    """Two classes of six images."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for k in range(6):
            (root / name / f"{k}.png").write_bytes(encoded(picture(10 * label + k), "PNG"))
    return root


def png_of(width, height):
    """A PNG whose header claims a size, and whose data hold a hundred bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_of(width, height):
    """A JPEG whose header claims another size than it has."""
    size = struct.pack(">HH", 64, 64)
    return encoded(picture(1, 64, 64), "JPEG").replace(size, struct.pack(">HH", height, width), 1)


class World:
    """A folder in which one mistake is made; its methods give the arguments of the command line."""

    def __init__(self, root: Path, trained: Path):
        self.root, self.trained = root, trained
        self.birds = photographs(root / "birds")
        self.run = root / "run"

    def train(self, *more, source="", config="own_images_scratch"):
        """Arguments of `cdml train` on the birds, small."""
        return [
            "train",
            f"--config={config}",
            f"--config.source={source or f'folder:{self.birds}'}",
            f"--workdir={self.run}",
            "--config.image.image_size=16",
            "--config.epochs=1",
            "--config.warmup_epochs=0",
            "--config.batch_size=8",
            "--config.data.num_threads=0",
            "--config.compilation_cache=",
            *more,
        ]

    def config(self, text):
        """A configuration of one's own."""
        (self.root / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["train", f"--config={self.root / 'mine.py'}", f"--workdir={self.run}"]

    def base_config(self, line):
        """The base with a line of one's own."""
        lines = ["def get_config():", "c = base.get_config()", line, "return c"]
        return self.config("from cdml_jax.configs import base\n" + "\n  ".join(lines))

    def image(self, data, name="crow/9.jpg"):
        """One more image."""
        (self.birds / name).write_bytes(data)
        return self.train()

    def link(self, name, target):
        """A link among the birds."""
        (self.birds / name).symlink_to(target)
        return self.train()

    def change(self, change):
        """The birds' folder changed by a function of it."""
        change(self.birds)
        return self.train()

    def lists(self, train, **tables):
        """train.txt, and other files by their stems, as bytes or text."""
        files = {"train.txt": train} | {f"{stem}.csv": table for stem, table in tables.items()}
        for name, content in files.items():
            (self.birds / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.train(source=f"list:{self.birds}")

    def weights(self, content, name="w.safetensors"):
        """Weights: bytes, or a change to the arrays that the package ships, which may give metadata."""
        file = self.root / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            values = load_file(SHIPPED_FOLDER / "demo_upstream.safetensors")
            metadata = content(values)
            save_file(values, file, metadata=metadata if isinstance(metadata, dict) else None)
        return self.train(f"--config.model.weights={file}")

    def continued(self, *more, change=lambda run: None, config=None):
        """A run begun before, changed on disk or in its stored configuration, started again."""
        shutil.copytree(self.trained, self.run)
        stored = json.loads((self.run / "config.json").read_text().replace("TRAINED", str(self.birds)))
        for key, value in (config or {}).items():
            group, _, name = key.rpartition(".")
            (stored["config"][group] if group else stored["config"])[name] = value
        del stored["digest"]
        (self.run / "config.json").write_text(json.dumps(sealed(stored)))
        change(self.run)
        return self.train(*more)

    def in_use(self):
        """A run that another process still holds."""
        arguments = self.continued()
        self.lock = (self.run / ".lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        return arguments

    def of_more_classes(self):
        """A run on three classes that is given the checkpoints of one on two."""
        (self.birds / "emu").mkdir()
        for k in range(6):
            self.image(encoded(picture(30 + k), "PNG"), f"emu/{k}.png")
        arguments = self.claimed(self.train())
        shutil.copytree(self.trained / "checkpoints", self.run / "checkpoints")
        return arguments

    def results(self, content, name="cdml-seed0.npz"):
        """A table to reproduce, one result of which is damaged."""
        arguments = self.claimed(["reproduce", *self.train()[1:], "--config.data.test_fraction=0.2"])
        (self.run / "results").mkdir()
        (self.run / "results" / name).write_bytes(content)
        return arguments

    def table(self, *runs):
        """The folder of a table, with the runs that have begun."""
        self.claimed(["reproduce", *self.train()[1:], "--config.data.test_fraction=0.2"])
        for name in runs:
            shutil.copytree(self.trained, self.run / "runs" / name)
        return f"--workdir={self.run}"

    def claimed(self, arguments):
        """A workdir that holds the configuration of a run and nothing else yet."""
        command, *rest = arguments
        config = load_arguments([a for a in rest if not a.startswith("--workdir")]).settings
        workdir.claim(self.run, command, config, load_dataset(config).fingerprint())
        return arguments


class _Harm:
    def __reduce__(self):
        return os.system, ("touch unpickled",)


PICKLE = pickle.dumps({"stem": _Harm(), "kernel": np.ones(100)})
