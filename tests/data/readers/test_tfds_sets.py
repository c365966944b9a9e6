import dataclasses
import importlib.util
import io
import shutil
import sys

import cv2
import numpy as np
import pytest

from cdml_jax.data.feeds.batches import evaluation_batches, read_image
from cdml_jax.data.images.transforms import Transform
from cdml_jax.data.published.catalogue import SETS
from cdml_jax.data.sources import load
from cdml_jax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")

COUNTS = {"train": 9, "test": 4}


class MiniatureBirds(tfds.core.GeneratorBasedBuilder):
    """Two classes; pixels are (index, 10 x the split's size, label)."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=["crow", "owl"]),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNTS.items()}

    def _generate_examples(self, count):
        for index in range(count):
            pixels = np.full((8, 6, 3), (index % 3, 10 * count, index), np.uint8)  # OpenCV writes blue first
            files = [cv2.imencode(".png", p)[1].tobytes() for p in (pixels, pixels[:, :, :1])]
            yield (
                index,
                {
                    "image": io.BytesIO(files[0]),
                    "label": index % 3 % 2,
                    "segmentation_mask": io.BytesIO(files[1]),
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    MiniatureBirds(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return str(folder)


def test_a_prepared_set_by_name(data_dir):
    dataset = load("tfds:miniature_birds", data_dir=data_dir)
    assert (dataset.name, dataset.classes.names) == ("miniature_birds", ("crow", "owl"))
    assert {split: len(source) for split, source in dataset.splits.items()} == COUNTS


def test_a_prepared_set_by_its_folder(data_dir, tmp_path):
    dataset = load(f"tfds:{data_dir}/miniature_birds/1.0.0", data_dir=str(tmp_path))
    assert dataset.fingerprint() == load("miniature_birds", data_dir=data_dir).fingerprint()


def test_images_labels_and_names_belong_together(data_dir):
    train = load("miniature_birds", data_dir=data_dir).splits["train"]
    pixels = np.array([read_image(train, i)[0, 0] for i in range(9)])
    assert sorted(pixels[:, 0].tolist()) == list(range(9))
    assert (pixels[:, 1] == 90).all()
    assert (train.labels == pixels[:, 2] % 2).all()


def test_slices_of_splits(data_dir):
    whole = load("miniature_birds", data_dir=data_dir).splits["train"]
    parts = load("miniature_birds", data_dir=data_dir, train="train[:6]", validation="train[-3:]").splits
    assert [parts["validation"].name(i) for i in range(3)] == [whole.name(i) for i in (6, 7, 8)]
    assert whole.name(7) == "miniature_birds/1.0.0 train[7]"
    assert parts["validation"].labels.tolist() == whole.labels[6:].tolist()


def test_a_sum_of_splits(data_dir):
    train = load("miniature_birds", data_dir=data_dir, train="train[:50%]+test", test="").splits["train"]
    assert [train.name(i).split()[1] for i in (0, len(train) - 1)] == ["train[0]", "test[3]"]


def test_a_miniature_set_is_evaluated_without_tensorflow(data_dir):
    source = load("miniature_birds", data_dir=data_dir).splits["test"]
    batches = list(evaluation_batches(source, batch_size=3, transform=Transform(6, resize=6)))
    assert sum(b["mask"].sum() for b in batches) == 4
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"validation": "train[5:]"},
            r"image in two splits \(4\): miniature_birds/1.0.0 train\[5\] \(in train and val",
        ),
        ({"validation": "dev"}, r"split 'dev': Unknown split 'dev'.*\(it has train, test\)"),
        ({"validation": "train[zz]"}, r"split 'train\[zz\]'"),
        ({"train": "fit"}, "split 'fit'"),
    ],
)
def test_a_split_that_cannot_be_is_refused(data_dir, options, message):
    with pytest.raises(UserError, match=message):
        load("miniature_birds", data_dir=data_dir, **options)


class NeverPreparedBirds(MiniatureBirds):
    """Known to TFDS by name, with no data anywhere."""


def test_a_set_that_is_not_prepared_tells_how(tmp_path, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None
    )  # as where TensorFlow is not installed
    with pytest.raises(
        UserError, match=r"not prepared in .*tfds build never_prepared_birds --data_dir=.*array_record"
    ):
        load("never_prepared_birds", data_dir=str(tmp_path))


def test_a_set_in_another_format_tells_how(data_dir, tmp_path):
    folder = tmp_path / "miniature_birds" / "1.0.0"
    shutil.copytree(f"{data_dir}/miniature_birds/1.0.0", folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"fileFormat": "array_record"', '"fileFormat": "tfrecord"'))
    with pytest.raises(UserError, match="is stored as tfrecord; prepare it again with"):
        load("miniature_birds", data_dir=str(tmp_path))


class MiniatureNumberedBirds(tfds.core.GeneratorBasedBuilder):
    """As TFDS has CUB: classes by number alone, their names in the records; a split called "val"."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "label": tfds.features.ClassLabel(num_classes=3),
            "label_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(labels) for split, labels in (("train", (0, 2)), ("val", (1, 2)))
        }

    def _generate_examples(self, labels):
        for label in labels:
            pixels = np.full((8, 6, 3), 40 * label + 7 * len(labels), np.uint8)
            yield (
                label,
                {
                    "image": io.BytesIO(cv2.imencode(".png", pixels)[1].tobytes()),
                    "image/filename": f"{label}.png",
                    "label": label,
                    "label_name": ("black_footed_albatross", "laysan_albatross", "sooty_albatross")[label],
                },
            )


def test_classes_by_number_take_the_names_in_the_records(tmp_path, monkeypatch):
    MiniatureNumberedBirds(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    whole = dataclasses.replace(SETS["cub200"], tfds="miniature_numbered_birds")
    monkeypatch.setitem(SETS, "cub200", whole)
    with pytest.raises(UserError) as error:
        load("tfds:miniature_numbered_birds", data_dir=str(tmp_path), validation_fraction=0.5)
    assert "class without a training image: laysan albatross" in str(error.value)
    dataset = load(
        "tfds:miniature_numbered_birds", data_dir=str(tmp_path), train="train+val", validation="", check=False
    )
    assert dataset.classes.names == ("black footed albatross", "laysan albatross", "sooty albatross")
    assert dataset.name == "CUB-200-2011"


def test_val_is_the_validation_split(data_dir, tmp_path):
    folder = tmp_path / "miniature_birds" / "1.0.0"
    shutil.copytree(f"{data_dir}/miniature_birds/1.0.0", folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"name": "test"', '"name": "val"'))
    (file,) = folder.glob("*-test.*")
    file.rename(folder / file.name.replace("-test.", "-val."))
    dataset = load(f"tfds:{folder}", data_dir=str(tmp_path), check=False)
    assert {split: len(source) for split, source in dataset.splits.items()} == {"train": 9, "validation": 4}
