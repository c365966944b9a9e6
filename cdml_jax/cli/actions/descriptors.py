"""What descriptors without training retrieve and localize of a data set: measured, and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import PurePath

import jax
import numpy as np
from etils.epath import Path

from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.settings import Settings, to_plain
from cdml_jax.data.dataset import Dataset, KnownBox
from cdml_jax.data.images.decoding import decode
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.readers.boxes import Box, write_boxes
from cdml_jax.errors import UserError
from cdml_jax.inference.descriptors import check_side
from cdml_jax.inference.encoding import Encoded, encode
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.reporting.descriptors import Found, Measured, table
from cdml_jax.reporting.drawing import attempt, why_not
from cdml_jax.reporting.provenance import provenance
from cdml_jax.retrieval import nearest
from cdml_jax.retrieval.boxes import corloc
from cdml_jax.retrieval.measures import average_precision_at
from cdml_jax.system import console
from cdml_jax.system.files import write_json, write_text, writing

_TOP = 5
_DRAWN = 24


def measure(run: TrainedRun, settings: Settings, folder: Path) -> None:
    """Measure a network on the data set of some settings; results go to `folder`.

    Args:
      run: the network.
      settings: from which the run was made; `source` and `data` say which images.
      folder: for descriptors.json, descriptors.md, boxes_….csv and boxes.png.

    Raises:
      UserError: there is no test split, an image cannot be read, or the folder cannot be written.
    """
    side = run.image_size
    check_side(run, side)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(settings)
    if "test" not in dataset.splits or len(dataset.splits) < 2 or dataset.test_class_names is not None:
        raise UserError(
            f"source: {settings.source} must have a test split of the classes of its other splits: its "
            "images are the queries, all others the gallery"
        )
    encoded = encode(run, dataset, side)
    known = dataset.boxes
    measured = Measured(
        dataset=dataset.name,
        network=settings.model.name,
        weights=PurePath(settings.model.weights).name,
        whole=_is_whole(dataset),
        side=side,
        map_shape=encoded.map_shape,
        queries=int(encoded.is_query.sum()),
        gallery=int((~encoded.is_query).sum()),
        encodings=_retrieved(encoded),
        corloc=_corloc(encoded, known),
        located=sum(name in known for name in encoded.names),
    )
    for method, boxes in encoded.boxes.items():
        write_boxes(folder / f"{method.replace('box_', 'boxes_')}.csv", zip(encoded.names, boxes))
    device = jax.devices()[0]
    made = provenance(to_plain(settings), device=device.device_kind, devices=run.number_of_devices)
    record = measured.record() | {"provenance": dataclasses.asdict(made)}
    write_json(folder / "descriptors.json", record)
    write_text(folder / "descriptors.md", table(measured))
    _draw(encoded, dataset, known, folder / "boxes.png")
    console.result(table(measured))
    console.say(f"Written to {folder}: descriptors.json, descriptors.md, boxes_….csv, boxes.png")


def _is_whole(dataset: Dataset) -> bool:
    """Whether it is a published set with as many images as its publisher says."""
    number = sum(map(len, dataset.splits.values()))
    return any(dataset.name == p.title and number == sum(p.counts.values()) for p in SETS.values())


def _retrieved(encoded: Encoded) -> dict[str, Found]:
    queries, gallery = encoded.is_query, ~encoded.is_query
    labels = encoded.labels
    found = {}
    for name, rows in encoded.encodings.items():
        with console.working(f"Searching by {name}"):
            indices = nearest(rows[queries], rows[gallery], k=_TOP)
        hits = (labels[gallery][indices] == labels[queries][:, None]) & (indices >= 0)
        found[name] = Found(
            rows.shape[1],
            float(hits[:, 0].mean()),
            float(average_precision_at(hits).mean()),
            float(average_precision_at(hits, over="k").mean()),
        )
    return found


def _corloc(encoded: Encoded, known: Mapping[str, KnownBox]) -> dict[str, tuple[float, float]]:
    """CorLoc of all images with a known box, and of the queries among them; of whole images too."""
    there = np.array([name in known for name in encoded.names])
    if not there.any():
        return {}
    truth = np.array([known[name] for name, is_there in zip(encoded.names, there) if is_there])
    asked = encoded.is_query[there]
    any_boxes = next(iter(encoded.boxes.values()))
    whole = [Box(0, 0, 1, 1, box.width, box.height) for box in any_boxes]
    found = {}
    for method, boxes in {"whole": whole, **encoded.boxes}.items():
        pixels = np.array([box.pixels for box, is_there in zip(boxes, there) if is_there])
        found[method] = (corloc(pixels, truth), corloc(pixels[asked], truth[asked]))
    return found


def _draw(encoded: Encoded, dataset: Dataset, known: Mapping[str, KnownBox], path: Path) -> None:
    if reason := why_not():
        console.warn(reason)
        return
    from cdml_jax.reporting.localization import Shown, draw_boxes  # here: it loads matplotlib

    places = np.unique(np.linspace(0, len(encoded.names) - 1, _DRAWN).astype(int))
    wanted = {encoded.names[place] for place in places}
    images = {
        source.name(i): source.image(i)
        for source in dataset.splits.values()
        for i in range(len(source))
        if source.name(i) in wanted
    }
    shown = []
    for place in places:
        name, box = encoded.names[place], encoded.boxes["box_ddt"][place]
        image = images[name]
        pixels = decode(image) if isinstance(image, bytes) else image
        title = dataset.classes.names[encoded.labels[place]]
        shown.append(Shown(title, pixels, box.pixels if box.found else None, known.get(name)))
    attempt(path, lambda path: draw_boxes(shown, path))
