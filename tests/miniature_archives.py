"""Miniature archives in the layouts of the published sets, their quirks included: a few small JPEGs each."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io

Rows = list[tuple[str, int]]  # name in the publisher's lists, label from 0


@dataclass
class Miniature:
    """What a miniature must be read as, written down by hand."""

    classes: list[str]
    splits: dict[str, Rows]
    families: list[str] | None = None  # of each class


def picture(name: str, height: int = 12, width: int = 16, *, grey: bool = False) -> bytes:
    """A JPEG unlike that of any other name."""
    rng = np.random.default_rng(sum((i + 1) * c for i, c in enumerate(name.encode())))
    pixels = cv2.resize(rng.integers(0, 256, (3, 4, 1 if grey else 3), dtype=np.uint8), (width, height))
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _cells(*values: str) -> np.ndarray:
    """A MATLAB cell array, one column, as scipy writes it."""
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


def _structs(*rows: dict) -> np.ndarray:
    """A MATLAB struct array, one row."""
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def write_cub(folder: Path) -> Miniature:
    """Ids from 1; a grey image; an apostrophe is left out of names, a hyphen is not."""
    images = [
        ("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 1, 0),
        ("001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", 1, 1),
        ("002.Chuck_will_Widow/Chuck_Will_Widow_0028_796991.jpg", 2, 1),
        ("002.Chuck_will_Widow/Chuck_Will_Widow_0002_796969.jpg", 2, 0),
        ("003.Red_winged_Blackbird/Red_Winged_Blackbird_0067_4015.jpg", 3, 1),
    ]
    top = folder / "CUB_200_2011"
    numbered = list(enumerate(images, start=1))
    _write(top / "images.txt", _lines(*(f"{i} {file}" for i, (file, _, _) in numbered)))
    _write(top / "image_class_labels.txt", _lines(*(f"{i} {label}" for i, (_, label, _) in numbered)))
    _write(top / "train_test_split.txt", _lines(*(f"{i} {train}" for i, (_, _, train) in numbered)))
    classes = ["001.Black_footed_Albatross", "002.Chuck_will_Widow", "003.Red_winged_Blackbird"]
    _write(top / "classes.txt", _lines(*(f"{i} {name}" for i, name in enumerate(classes, start=1))))
    for i, (file, _, _) in numbered:
        _write(top / "images" / file, picture(file, grey=i == 2))
    _write(
        folder / "attributes.txt", "1 has_bill_shape::curved_(up_or_down)\n"
    )  # beside the folder, as there
    return Miniature(
        ["Black footed Albatross", "Chuck will Widow", "Red winged Blackbird"],
        {
            "train": [(images[1][0], 0), (images[2][0], 1), (images[4][0], 2)],
            "test": [(images[0][0], 0), (images[3][0], 1)],
        },
    )


def write_nabirds(folder: Path) -> Miniature:
    """Class ids with gaps, nodes that hold no image, names with commas, apostrophes and two spaces."""
    ids = [f"{i:08x}-21dc-4d0c-bfe1-4cae3c85c829" for i in range(5)]
    rows = [(ids[0], 7, 1), (ids[1], 12, 0), (ids[2], 9, 1), (ids[3], 12, 1), (ids[4], 7, 0)]
    file = {key: f"{label:04d}/{key.replace('-', '')}.jpg" for key, label, _ in rows}
    top = folder / "nabirds"
    _write(top / "images.txt", _lines(*(f"{key} {file[key]}" for key, _, _ in rows)))
    _write(top / "image_class_labels.txt", _lines(*(f"{key} {label}" for key, label, _ in rows)))
    _write(top / "train_test_split.txt", _lines(*(f"{key} {train}" for key, _, train in rows)))
    _write(
        top / "classes.txt",
        _lines(
            "0 Birds",
            "1 Ducks, Geese, and Swans",
            "2 Perching Birds",
            "3 Wood-Warblers",
            "4 Blue-winged Teal",
            "5 Wilson's Warbler",
            "7 Blue-winged Teal  (Male)",
            "9 Wilson's Warbler",
            "12 Blue-winged Teal  (Female/juvenile)",
        ),
    )
    _write(top / "hierarchy.txt", _lines("1 0", "2 0", "3 2", "4 1", "5 3", "7 4", "9 5", "12 4"))
    for name in file.values():
        _write(top / "images" / name, picture(name))
    return Miniature(
        ["Blue-winged Teal  (Male)", "Wilson's Warbler", "Blue-winged Teal  (Female/juvenile)"],
        {
            "train": [(file[ids[0]], 0), (file[ids[2]], 1), (file[ids[3]], 2)],
            "test": [(file[ids[1]], 2), (file[ids[4]], 0)],
        },
        ["Ducks, Geese, and Swans", "Wood-Warblers", "Ducks, Geese, and Swans"],
    )


_CARS = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "smart fortwo Convertible 2012"]


def _car(label: int, **named: object) -> dict:
    return {"bbox_x1": 3, "bbox_y1": 2, "bbox_x2": 300, "bbox_y2": 9, "class": label, **named}


def write_cars(folder: Path, *, twice: bool = False) -> Miniature:
    """The form with a list a split; both splits number their images from 1. `twice`: as copies unpack it."""
    labels = {"train": [3, 1, 2], "test": [2, 1]}
    named = {s: [f"{i:05d}.jpg" for i in range(1, len(v) + 1)] for s, v in labels.items()}
    (folder / "devkit").mkdir(parents=True)
    scipy.io.savemat(folder / "devkit/cars_meta.mat", {"class_names": _cells(*_CARS).T})
    for split, path in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        pairs = zip(labels[split], named[split], strict=True)
        entries = _structs(*(_car(label, fname=file) for label, file in pairs))
        scipy.io.savemat(folder / path, {"annotations": entries})
        below = f"cars_{split}/cars_{split}" if twice else f"cars_{split}"
        for file in named[split]:
            _write(folder / below / file, picture(f"{split} {file}", grey=file == "00002.jpg"))
    # What the devkit ships in place of the labels.
    blind = _structs(*({"bbox_x1": 3, "fname": file} for file in named["test"]))
    scipy.io.savemat(folder / "devkit/cars_test_annos.mat", {"annotations": blind})
    return Miniature(
        list(_CARS),
        {
            "train": [("cars_train/00001.jpg", 2), ("cars_train/00002.jpg", 0), ("cars_train/00003.jpg", 1)],
            "test": [("cars_test/00001.jpg", 1), ("cars_test/00002.jpg", 0)],
        },
    )


def write_cars_combined(folder: Path, *, times: int = 1) -> Miniature:
    """The form with one list for both splits, which a flag tells apart; `times` five images."""
    pattern = [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1)] * times
    entries = [(f"car_ims/{i:06d}.jpg", label, test) for i, (label, test) in enumerate(pattern, start=1)]
    annotations = _structs(
        *(
            {"relative_im_path": path, "bbox_x1": 3, "class": label, "test": test}
            for path, label, test in entries
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    content = {"annotations": annotations, "class_names": _cells(*_CARS).T}
    scipy.io.savemat(folder / "cars_annos.mat", content)
    for path, _, _ in entries:
        _write(folder / path, picture(path))
    splits = {
        s: [(p, label - 1) for p, label, test in entries if test == (s == "test")] for s in ("train", "test")
    }
    return Miniature(list(_CARS), splits)


def write_dogs(folder: Path) -> Miniature:
    """Labels from 1 in MATLAB columns; a breed with a hyphen of its own; lists.tar extracted beside."""
    rows = {
        "train": [
            ("n02085620-Chihuahua/n02085620_5927.jpg", 1),
            ("n02113799-standard_poodle/n02113799_9.jpg", 3),
            ("n02106550-black-and-tan_coonhound/n02106550_1.jpg", 2),
        ],
        "test": [
            ("n02106550-black-and-tan_coonhound/n02106550_2.jpg", 2),
            ("n02085620-Chihuahua/n02085620_7.jpg", 1),
        ],
    }
    for split, entries in rows.items():
        (folder / "lists").mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(
            folder / "lists" / f"{split}_list.mat",
            {
                "file_list": _cells(*(file for file, _ in entries)),
                "annotation_list": _cells(*(file[:-4] for file, _ in entries)),
                "labels": np.array([[label] for _, label in entries], np.uint8),
            },
        )
        for file, _ in entries:
            _write(folder / "Images" / file, picture(file))
    return Miniature(
        ["Chihuahua", "black-and-tan coonhound", "standard poodle"],
        {split: [(file, label - 1) for file, label in entries] for split, entries in rows.items()},
    )


def write_flowers(folder: Path) -> Miniature:
    """Labels in one row for all images, splits as numbers of images from 1, in no order; uint8 and uint16."""
    labels = [3, 1, 2, 1, 3, 2, 1]
    sets = {"trnid": [4, 1, 3], "valid": [7], "tstid": [2, 6, 5]}
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    scipy.io.savemat(folder / "setid.mat", {k: np.array([v], np.uint16) for k, v in sets.items()})
    for i in range(1, 8):
        _write(folder / "jpg" / f"image_{i:05d}.jpg", picture(f"flower {i}"))
    return Miniature(
        ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
        {
            "train": [("image_00004.jpg", 0), ("image_00001.jpg", 2), ("image_00003.jpg", 1)],
            "validation": [("image_00007.jpg", 0)],
            "test": [("image_00002.jpg", 0), ("image_00006.jpg", 1), ("image_00005.jpg", 2)],
        },
    )


def write_aircraft(folder: Path) -> Miniature:
    """Names with spaces and slashes, an id with a leading zero, a banner of 20 pixels in another colour."""
    top = folder / "fgvc-aircraft-2013b" / "data"
    family = {"707-320": "Boeing 707", "F/A-18": "F/A-18", "Gulfstream IV": "Gulfstream"}
    rows = {
        "train": [("1025794", "707-320"), ("0034309", "F/A-18"), ("1340192", "Gulfstream IV")],
        "val": [("0056978", "F/A-18")],
        "test": [("0698580", "Gulfstream IV"), ("0450014", "707-320")],
    }
    _write(top / "variants.txt", _lines(*family))
    for split, entries in rows.items():
        _write(top / f"images_variant_{split}.txt", _lines(*(f"{i} {name}" for i, name in entries)))
        _write(top / f"images_family_{split}.txt", _lines(*(f"{i} {family[name]}" for i, name in entries)))
        for i, _ in entries:
            sky = np.full((44, 30, 3), 200, np.uint8)
            sky[-20:] = 10
            sky[:24, :15] = int(i) % 90  # no two alike
            _write(top / "images" / f"{i}.jpg", cv2.imencode(".jpg", sky)[1].tobytes())
    label = {name: k for k, name in enumerate(family)}
    splits = {s: [(f"{i}.jpg", label[name]) for i, name in entries] for s, entries in rows.items()}
    splits["validation"] = splits.pop("val")
    return Miniature(list(family), splits, list(family.values()))


def write_inaturalist(folder: Path, *, train: str = "train") -> Miniature:
    """COCO's form; annotations in another order than images; two species of one name."""
    folders = [
        "00000_Animalia_Annelida_alpha",
        "00001_Plantae_Tracheophyta_beta",
        "00002_Animalia_Chordata_beta",
    ]
    categories = [
        {"id": 0, "name": "Lumbricus alpha", "supercategory": "Animalia", "image_dir_name": folders[0]},
        {"id": 1, "name": "Beta beta", "supercategory": "Plants", "image_dir_name": folders[1]},
        {"id": 2, "name": "Beta beta", "supercategory": "Birds", "image_dir_name": folders[2]},
    ]
    rows = {train: [(0, 10), (1, 11), (2, 12), (2, 13)], "val": [(1, 20), (0, 21)]}
    splits = {}
    for part, entries in rows.items():
        name = {i: f"{part}/{folders[c]}/{i:04d}-ab.jpg" for c, i in entries}
        content = {
            "info": {"year": 2021},
            "images": [{"id": i, "file_name": name[i], "width": 16, "license": 0} for _, i in entries],
            "annotations": [
                {"id": k, "image_id": i, "category_id": c} for k, (c, i) in enumerate(entries[::-1])
            ],
            "categories": categories,
        }
        _write(folder / f"{part}.json", json.dumps(content))
        for file in name.values():
            _write(folder / file, picture(file))
        splits["validation" if part == "val" else "train"] = [(name[i], c) for c, i in entries[::-1]]
    classes = ["Lumbricus alpha", "Beta beta (1)", "Beta beta (2)"]
    return Miniature(classes, splits, ["Animalia", "Plants", "Birds"])


def write_grocery(folder: Path) -> Miniature:
    """Labels from 0, coarse labels beside, nested folders, a name with a comma in the path."""
    top = folder / "GroceryStoreDataset" / "dataset"
    rows = {
        "train": [("train/Fruit/Kiwi, green/a.jpg", 1, 1), ("train/Fruit/Apple/Pink-Lady/b.jpg", 0, 0)],
        "val": [("val/Fruit/Kiwi, green/c.jpg", 1, 1)],
        "test": [("test/Fruit/Apple/Pink-Lady/d.jpg", 0, 0), ("test/Fruit/Kiwi, green/e.jpg", 1, 1)],
    }
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Path (str)"
    _write(top / "classes.csv", _lines(header, "Pink-Lady,0,Apple,0,/x.jpg", '"Kiwi, green",1,Kiwi,1,/y.jpg'))
    for split, entries in rows.items():
        _write(top / f"{split}.txt", _lines(*(f"{file}, {fine}, {coarse}" for file, fine, coarse in entries)))
        for file, _, _ in entries:
            _write(top / file, picture(file))
    splits = {s: [(file, fine) for file, fine, _ in entries] for s, entries in rows.items()}
    splits["validation"] = splits.pop("val")
    return Miniature(["Pink-Lady", "Kiwi, green"], splits, ["Apple", "Kiwi"])


WRITERS = {
    "cub200": write_cub,
    "cars196": write_cars,
    "dogs120": write_dogs,
    "aircraft100": write_aircraft,
    "flowers102": write_flowers,
    "nabirds": write_nabirds,
    "inat2021": write_inaturalist,
    "inat2021_mini": lambda folder: write_inaturalist(folder, train="train_mini"),
    "grocery": write_grocery,
}
"""For each published set, what writes its miniature."""
