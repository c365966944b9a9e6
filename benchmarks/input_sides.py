"""The sides of input_pipeline.py: photographs of a folder to augmented uint8 batches, as each library does.

    python benchmarks/input_sides.py SIDE FOLDER --batch=64 --size=224 --jitter=0.2 --threads=2

reads a number of batches from each line of its input, makes them, and writes the seconds it took and those of
all its processors, workers included. All sides draw boxes of 35 to 100 % of the area with an aspect of 3/4 to
4/3, mirror half of the images, and scale brightness, contrast and saturation. All keep 8-bit colours and
channels last: what is left to the device costs none of them anything.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SCALE, RATIO = (0.35, 1.0), (3 / 4, 4 / 3)
Batches = Callable[[int, int], Iterator[np.ndarray]]  # (turn, number of batches) -> images


def photographs(folder: Path) -> list[str]:
    """The JPEG files below a folder, relative to it."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def ours(folder: Path, batch: int, size: int, jitter: float, *, threads: int, kept: bool) -> Batches:
    """What `cdml train` reads: `data.cache_bytes` of 0, or decoded images kept."""
    from cdml_jax.data.dataset import FileSource
    from cdml_jax.data.feeds.batches import cached, training_batches
    from cdml_jax.data.images.transforms import Transform

    paths = photographs(folder)
    files = FileSource(folder, paths, np.zeros(len(paths), np.int32))
    source = cached(files, 1 << 40 if kept else 0, num_threads=threads)
    transform = Transform(size, scale=SCALE, ratio=RATIO, jitter=jitter)

    def make(turn: int, count: int) -> Iterator[np.ndarray]:
        plan = _order(turn, len(paths), count * batch).reshape(count, batch)
        batches = training_batches(source, plan, seed=0, epoch=turn, transform=transform, num_threads=threads)
        return (one["image"] for one in batches)

    return make


def _order(turn: int, images: int, wanted: int) -> np.ndarray:
    """Permutations of the images, one after another."""
    rng = np.random.default_rng(turn)
    return np.concatenate([rng.permutation(images) for _ in range(-(-wanted // images))])[:wanted]


def box_of(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random box, as torchvision's RandomResizedCrop draws it."""
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(10):
        area = width * height * random.uniform(*SCALE)
        aspect = math.exp(random.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def view_by_pillow(path: str, size: int, jitter: float, draft: bool) -> np.ndarray:
    """One augmented image, as torchvision's Pillow backend makes it.

    With `draft` the decoder may shrink it by 2, 4 or 8. `resize` gets the box, without a copy.
    """
    from PIL import Image, ImageEnhance

    with Image.open(path) as image:
        whole = image.size
        left, top, w, h = box_of(*whole)
        if draft:
            shrink = max(1, min(w // size, h // size))
            image.draft("RGB", (whole[0] // shrink, whole[1] // shrink))
        image = image.convert("RGB")
    x, y = image.size[0] / whole[0], image.size[1] / whole[1]
    box = (left * x, top * y, (left + w) * x, (top + h) * y)
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    kinds = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    if jitter:
        for kind in random.sample(kinds, 3):
            image = kind(image).enhance(random.uniform(1 - jitter, 1 + jitter))
    return np.asarray(image)


def torch_loader(
    folder: Path, batch: int, size: int, jitter: float, *, workers: int, draft: bool = True
) -> Batches:
    """torch's DataLoader, whose workers stay alive between turns."""
    import torch
    from torch.utils.data import DataLoader, Dataset, Sampler

    paths = [str(folder / path) for path in photographs(folder)]

    class Photographs(Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.from_numpy(view_by_pillow(paths[index], size, jitter, draft).copy())

    class Turn(Sampler):
        turn, count = 0, 1

        def __iter__(self) -> Iterator[list[int]]:
            return iter(_order(self.turn, len(paths), self.count * batch).reshape(-1, batch).tolist())

        def __len__(self) -> int:
            return self.count

    sampler = Turn()
    loader: DataLoader = DataLoader(
        Photographs(), batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )

    def make(turn: int, count: int) -> Iterator[np.ndarray]:
        sampler.turn, sampler.count = turn, count
        return (images.numpy() for images in loader)

    return make


def tf_data(folder: Path, batch: int, size: int, jitter: float, *, threads: int, together: bool) -> Batches:
    """tf.data: only the box is decoded; the colours of each image, or of a whole batch `together`."""
    import tensorflow as tf

    paths = tf.constant([str(folder / path) for path in photographs(folder)])
    grey = tf.constant([0.299, 0.587, 0.114])

    def view(index: tf.Tensor) -> tf.Tensor:
        data = tf.io.read_file(paths[index])
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros([1, 0, 4]),
            area_range=SCALE,
            aspect_ratio_range=RATIO,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], extent[0], extent[1]])
        image = tf.image.resize(tf.io.decode_and_crop_jpeg(data, window, channels=3), [size, size])
        return tf.image.random_flip_left_right(image)

    def colours(images: tf.Tensor) -> tf.Tensor:
        """Brightness, contrast and saturation of (..., size, size, 3) as one matrix for each image."""
        shape = tf.concat([tf.shape(images)[:-3], [1, 1, 1]], 0)
        b, c, s = (tf.random.uniform(shape, 1 - jitter, 1 + jitter) for _ in range(3))
        mean = tf.reduce_sum(tf.reduce_mean(images, [-3, -2], keepdims=True) * grey, -1, keepdims=True) * b
        shade = tf.reduce_sum(images * grey, -1, keepdims=True)
        images = (b * c * s) * images + ((b * c * (1 - s)) * shade + (1 - c) * mean)
        return tf.cast(tf.clip_by_value(images + 0.5, 0, 255), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = False

    def make(turn: int, count: int) -> Iterator[np.ndarray]:
        images = tf.data.Dataset.from_tensor_slices(_order(turn, len(paths), count * batch))
        images = images.map(view, num_parallel_calls=tf.data.AUTOTUNE)
        if not together:
            images = images.map(colours, num_parallel_calls=tf.data.AUTOTUNE)
        images = images.batch(batch, drop_remainder=True)
        if together:
            images = images.map(colours, num_parallel_calls=tf.data.AUTOTUNE)
        return images.prefetch(tf.data.AUTOTUNE).with_options(options).as_numpy_iterator()

    return make


def side(name: str, threads: int) -> Callable[..., Batches]:
    """A side by its name; "torch 2" is a DataLoader of two workers, of which 0 works in the caller."""
    library, _, setting = name.partition(" ")
    if library == "ours":
        return functools.partial(ours, threads=threads, kept=setting == "kept")
    if library == "torch":
        workers, _, plain = setting.partition(" ")
        return functools.partial(torch_loader, workers=int(workers), draft=not plain)
    return functools.partial(tf_data, threads=threads, together=setting == "together")


def processor_seconds() -> float:
    """What this process and those that it started have spent so far; not a number where that is not told."""
    try:
        children = Path("/proc/self/task").glob("*/children")
        processes = ["self", *(pid for path in children for pid in path.read_text().split())]
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes]
    except OSError:
        return math.nan
    return sum(int(user) + int(system) for *_, user, system in (one[:13] for one in fields)) / os.sysconf(
        "SC_CLK_TCK"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("side")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--jitter", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    try:
        make = side(options.side, options.threads)(
            options.folder, options.batch, options.size, options.jitter
        )
    except ImportError as error:
        print(f"{error.name} is not installed", flush=True)
        return
    print("ready", flush=True)
    for turn, line in enumerate(sys.stdin):
        began, used, count = time.perf_counter(), processor_seconds(), 0
        for images in make(turn, int(line)):
            if images.shape != (options.batch, options.size, options.size, 3) or images.dtype != np.uint8:
                raise ValueError(f"{images.dtype} {images.shape} from {options.side}")
            count += 1
        if count != int(line):
            raise ValueError(f"{count} batches instead of {int(line)} from {options.side}")
        print(time.perf_counter() - began, processor_seconds() - used, flush=True)


if __name__ == "__main__":
    main()
