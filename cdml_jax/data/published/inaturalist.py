"""iNaturalist 2021: annotations in the JSON form of COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.classes import Classes
from cdml_jax.data.published.catalogue import PublishedSet
from cdml_jax.data.published.listing import Listing, Row, distinct, locate
from cdml_jax.errors import UserError


def read_inaturalist(folder: Path, published: PublishedSet, problems: Problems) -> Listing:
    """iNaturalist 2021 (G. Van Horn et al., CVPR 2021), its whole training split or the mini one.

    Classes are species, by their scientific names, in the order of their ids; families are the eleven
    supercategories. The published validation split is the one that papers report on; the labels of the test
    split were never published.
    """
    train = "train_mini" if published.key == "inat2021_mini" else "train"
    parts = {"train": train, "validation": "val"}
    wanted = {f"{part}{end}": f"{part}{end}.tar.gz" for part in parts.values() for end in ("", ".json")}
    found = dict(zip(wanted, locate(folder, published, wanted), strict=True))
    categories: list[dict[str, Any]] = []
    rows: dict[str, list[Row]] = {}
    for split, part in parts.items():
        path = found[f"{part}.json"]
        images, annotations, categories_here = _read(path)
        if categories and categories_here != categories:
            problems.add("categories that differ between the lists", path.name)
        categories = categories_here
        number = {category["id"]: label for label, category in enumerate(categories)}
        below = found[part].relative_to(folder).as_posix()
        files = dict(images)
        rows[split] = []
        for image, category in annotations:
            name = files.pop(image, None)
            if name is None:
                problems.add("annotation without an image, or the second of one", f"{image} ({path.name})")
            elif category not in number:
                problems.add("annotation of an unknown category", f"{category} ({path.name})")
            else:
                file = name if below == part else f"{below}/{name.partition('/')[2]}"
                _agree(name, categories[number[category]], path, problems)
                rows[split].append(Row(name, file, number[category]))
        for name in files.values():
            problems.add("image without an annotation", f"{name} ({path.name})")
    families = [str(category["supercategory"]) for category in categories]
    family_names = tuple(sorted(set(families)))
    classes = Classes(
        distinct([str(c["name"]) for c in categories], [str(c["id"]) for c in categories]),
        tuple(family_names.index(family) for family in families),
        family_names,
    )
    return Listing(folder, classes, rows)


def _agree(name: str, category: dict[str, Any], path: Path, problems: Problems) -> None:
    folder = name.split("/")[1] if name.count("/") == 2 else ""
    expected = category.get("image_dir_name", folder)
    if folder != expected:
        problems.add("label that disagrees with the image's folder", f"{name} is {expected} in {path.name}")


def _read(path: Path) -> tuple[list[tuple[int, str]], list[tuple[int, int]], list[dict[str, Any]]]:
    """(id, file) of the images, (image, category) of the annotations, and the categories by id."""

    def shrunk(entry: dict[str, Any]) -> Any:
        # Of 2.7 million images only two fields are needed; kept whole they would take gigabytes.
        if "file_name" in entry:
            return entry["id"], entry["file_name"]
        if "image_id" in entry:
            return entry["image_id"], entry["category_id"]
        return entry

    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=shrunk)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        if not all({"name", "supercategory"} <= category.keys() for category in categories):
            raise KeyError("supercategory")
        return content["images"], content["annotations"], categories
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not the publisher's annotations, or cut short ({type(error).__name__}: {error})"
        ) from error
