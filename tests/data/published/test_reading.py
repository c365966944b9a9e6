import hashlib

import numpy as np
import pytest
import scipy.io
from messages import like
from miniature_archives import WRITERS, picture, write_cars, write_cars_combined

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.feeds.batches import read_image
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.published.reading import differences, read_published
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

WHOLE = {"train": "train", "validation": "validation", "test": "test"}


@pytest.fixture
def archive(tmp_path):
    """archive(key) writes the miniature; returns its folder and what it must be read as."""

    def write(key):
        return tmp_path / key, WRITERS[key](tmp_path / key)

    return write


def _rows(source):
    return [(source.name(i), label) for i, label in enumerate(np.asarray(source.labels).tolist())]


def _read(key, folder):
    problems = Problems(key)
    dataset = read_published(key, str(folder), problems)
    problems.raise_if_any()
    return dataset


def test_every_published_set_has_a_miniature():
    assert WRITERS.keys() == SETS.keys()


@pytest.mark.parametrize("key", WRITERS)
def test_a_layout_is_read_as_published(key, archive, tmp_path):
    folder, expected = archive(key)
    dataset = load(f"{key}:{folder}", data_dir=str(tmp_path / "cache"), **WHOLE)
    assert dataset.name == SETS[key].title
    assert dataset.classes.names == tuple(expected.classes)
    assert {split: _rows(source) for split, source in dataset.splits.items()} == expected.splits
    if expected.families is None:
        assert dataset.classes.families is None
    else:
        names = dataset.classes.family_names
        assert [names[f] for f in dataset.classes.families] == expected.families


@pytest.mark.parametrize(
    ("key", "place"),
    [
        *((key, "..") for key in WRITERS if key not in ("aircraft100", "grocery")),
        ("cub200", "CUB_200_2011"),
        ("nabirds", "nabirds"),
        ("aircraft100", "fgvc-aircraft-2013b"),
        ("aircraft100", "fgvc-aircraft-2013b/data"),
        ("grocery", "GroceryStoreDataset"),
        ("grocery", "GroceryStoreDataset/dataset"),
    ],
)
def test_the_archives_own_folder_is_found_from_above_and_from_within(key, place, archive):
    folder, expected = archive(key)
    assert _rows(_read(key, (folder / place).resolve()).splits["train"]) == expected.splits["train"]


@pytest.mark.parametrize("key", WRITERS)
def test_every_image_is_the_file_of_its_name(key, archive):
    folder, _ = archive(key)
    images = {p.name: p.read_bytes() for p in folder.rglob("*.jpg")}
    for split, source in _read(key, folder).splits.items():
        stored = getattr(source, "source", source)
        for i in range(len(source)):
            file = source.name(i).split("/")[-1]
            if key == "cars196":  # the two splits use the same file names
                images[file] = (folder / source.name(i)).read_bytes()
            assert stored.image(i) == images[file], (split, source.name(i))
            assert read_image(source, i).shape[2] == 3


@pytest.mark.parametrize("key", WRITERS)
def test_the_checksum_is_that_of_sorted_lines(key, archive):
    folder, expected = archive(key)
    lines = sorted(f"{s}\t{name}\t{label}" for s, rows in expected.splits.items() for name, label in rows)
    digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert _read(key, folder).checksum == digest


def test_aircraft_lose_their_banner(archive):
    folder, _ = archive("aircraft100")
    image = read_image(_read("aircraft100", folder).splits["train"], 0)
    assert image.shape == (24, 30, 3)
    assert image[:, 16:].min() > 150  # the banner is nearly black


def test_an_image_no_higher_than_the_banner_is_named(archive, tmp_path):
    folder, _ = archive("aircraft100")
    (folder / "fgvc-aircraft-2013b/data/images/0034309.jpg").write_bytes(picture("low"))
    with pytest.raises(
        UserError, match=like("0034309.jpg (12 pixels high, no more than the 20 to be cut off")
    ):
        load(f"aircraft100:{folder}", data_dir=str(tmp_path))


def test_the_two_forms_of_cars_have_the_same_classes(tmp_path):
    expected = write_cars_combined(tmp_path / "combined")
    write_cars(tmp_path / "separate")
    combined, separate = (_read("cars196", tmp_path / form) for form in ("combined", "separate"))
    assert {split: _rows(source) for split, source in combined.splits.items()} == expected.splits
    assert combined.classes == separate.classes
    assert combined.checksum != separate.checksum


def test_cars_in_folders_unpacked_twice_keep_their_names(tmp_path):
    expected = write_cars(tmp_path / "twice", twice=True)
    write_cars(tmp_path / "once")
    twice, once = (_read("cars196", tmp_path / form) for form in ("twice", "once"))
    assert {split: _rows(source) for split, source in twice.splits.items()} == expected.splits
    assert twice.checksum == once.checksum
    assert twice.splits["test"].image(1) == once.splits["test"].image(1)


def test_a_set_that_is_not_whole_is_used_with_a_warning(archive, tmp_path, capsys):
    folder, _ = archive("cub200")
    load(f"cub200:{folder}", data_dir=str(tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"cdml: cub200:{folder}: 3 classes, not 200; 3 images in train, not 5,994; 2 images in"
    )


def test_another_division_of_the_right_size_differs_by_its_checksum(archive, monkeypatch):
    folder, expected = archive("flowers102")
    dataset = _read("flowers102", folder)
    counts = {split: len(rows) for split, rows in expected.splits.items()}
    monkeypatch.setitem(
        SETS,
        "flowers102",
        type(SETS["flowers102"])(
            **vars(SETS["flowers102"]) | {"num_classes": 3, "counts": counts, "checksum": "0" * 64}
        ),
    )
    assert differences("flowers102", dataset) == ["the right numbers, but other images, labels or splits"]


@pytest.mark.parametrize(
    ("key", "wanted", "archive_name"),
    [
        (
            "cub200",
            "CUB_200_2011/train_test_split.txt",
            r"CUB_200_2011\.tgz \(1\.15 GB, https://data\.caltech",
        ),
        ("nabirds", "nabirds/hierarchy.txt", r"nabirds\.tar\.gz"),
        ("cars196", "cars_test_annos_withlabels.mat", r"cars_test_annos_withlabels\.mat \(186 KB"),
        ("dogs120", "lists/test_list.mat", r"lists\.tar"),
        ("flowers102", "setid.mat", r"setid\.mat \(15 KB"),
        ("aircraft100", "fgvc-aircraft-2013b/data/images_variant_val.txt", r"fgvc-aircraft-2013b\.tar\.gz"),
        ("inat2021", "val.json", r"val\.json\.tar\.gz"),
        ("grocery", "GroceryStoreDataset/dataset/classes.csv", "github.com/marcusklasson"),
    ],
)
def test_a_missing_list_tells_which_archive_has_it(key, wanted, archive_name, archive):
    folder, _ = archive(key)
    (folder / wanted).unlink()
    with pytest.raises(
        UserError, match=rf"^{key}:.*{wanted.split('/')[-1]} missing; extract.*{archive_name}"
    ) as e:
        _read(key, folder)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("key", WRITERS)
def test_a_folder_that_is_not_there_tells_where_to_get_the_set(key, tmp_path):
    with pytest.raises(UserError, match=r"there is no such folder; extract there .*https?://"):
        load(f"{key}:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("key", WRITERS)
def test_a_missing_image_is_named_once(key, archive, tmp_path):
    folder, expected = archive(key)
    name = expected.splits["train"][0][0]
    next(p for p in sorted(folder.rglob("*.jpg")) if p.as_posix().endswith(f"/{name}")).unlink()
    with pytest.raises(UserError, match=r"1 problem;|2 problems;") as error:
        load(f"{key}:{folder}", data_dir=str(tmp_path / "cache"), **WHOLE)
    assert str(error.value).count(name) == 1
    assert "file that does not exist" in str(error.value)


EDITS = [
    ("cub200", "image_class_labels.txt", "2 1\n", "2 3\n", r"label that disagrees.*folder: 3 for 001\.Black"),
    ("cub200", "image_class_labels.txt", "2 1\n", "", r"image that image_class_labels\.txt does not have"),
    ("cub200", "image_class_labels.txt", "2 1\n", "2 9\n", r"label that classes\.txt does not have: 9"),
    (
        "cub200",
        "train_test_split.txt",
        "5 1\n",
        "5 yes\n",
        r"split that is neither 0 nor 1: yes \(train_test",
    ),
    ("cub200", "images.txt", "2 001", "1 001", r"id given twice: images\.txt line 2 \(1\)"),
    ("cub200", "images.txt", "3 002", "3002", r"line that is not `id value`: images\.txt line 3"),
    (
        "nabirds",
        "hierarchy.txt",
        "5 3\n",
        "",
        r"class without a family in hierarchy\.txt: 9 \(Wilson's Warbler\)",
    ),
    ("aircraft100", "images_variant_val.txt", "F/A-18", "F/A-19", r"variants\.txt does not have: F/A-19"),
    ("aircraft100", "images_family_val.txt", "F/A-18", "F-16", r"variant in two families: F/A-18"),
    (
        "inat2021",
        "train.json",
        '"category_id": 0',
        '"category_id": 1',
        "label that disagrees with the image's folder",
    ),
    ("inat2021", "train.json", '"image_id": 10', '"image_id": 99', "annotation without an image"),
    ("inat2021", "val.json", '"Plants"', '"Plantae"', "categories that differ between the lists"),
    ("inat2021", "train.json", '"categories"', '"kinds"', r"train\.json: not the publisher's annotations"),
    ("grocery", "val.txt", ", 1, 1", ", 7, 1", "label out of range"),
]


@pytest.mark.parametrize(("key", "file", "old", "new", "message"), EDITS)
def test_lists_that_contradict_each_other_are_refused(key, file, old, new, message, archive, tmp_path):
    folder, _ = archive(key)
    (path,) = folder.rglob(file)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load(f"{key}:{folder}", data_dir=str(tmp_path / "cache"), **WHOLE)


def test_matlab_labels_that_contradict_the_folders_are_refused(archive, tmp_path):
    folder, _ = archive("dogs120")
    content = scipy.io.loadmat(folder / "lists/test_list.mat")
    content["labels"][0, 0] = 3
    columns = {name: content[name] for name in ("file_list", "labels")}
    scipy.io.savemat(folder / "lists/test_list.mat", columns)
    with pytest.raises(
        UserError, match=r"disagrees.*folder: 3 for n02106550-black-and-tan_coonhound/n02106550_2"
    ):
        load(f"dogs120:{folder}", data_dir=str(tmp_path / "cache"))


def test_test_labels_that_were_left_out_are_asked_for(archive):
    folder, _ = archive("cars196")
    (folder / "devkit/cars_test_annos.mat").replace(folder / "cars_test_annos_withlabels.mat")
    with pytest.raises(UserError, match=r"have no class; cars_test_annos_withlabels\.mat has"):
        _read("cars196", folder)


def test_a_damaged_matlab_file_is_named(archive):
    folder, _ = archive("flowers102")
    (folder / "setid.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"setid\.mat: cannot be read as a MATLAB file"):
        _read("flowers102", folder)


def test_a_label_beyond_the_names_is_refused(archive, tmp_path):
    folder, _ = archive("flowers102")
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[3, 1, 2, 1, 3, 2, 103]], np.uint8)})
    with pytest.raises(UserError, match=like("label out of range 0 to 101: image_00007.jpg has 102")):
        load(f"flowers102:{folder}", data_dir=str(tmp_path))
