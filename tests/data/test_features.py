"""Features computed once: every image in every view, kept on disk, the same in shards."""

import numpy as np
import pytest

from cdml_jax.data import features, transforms
from cdml_jax.data.transforms import Transform
from cdml_jax.errors import UserError

TRANSFORM = Transform(16, crop="none", resize=16, jitter=0.3)


class Pictures:
    def __init__(self, pictures):
        self._pictures, self.labels = pictures, np.arange(len(pictures), dtype=np.int32) % 3

    def __len__(self):
        return len(self._pictures)

    def __getitem__(self, index):
        return {"image": self._pictures[index], "label": int(self.labels[index])}

    def name(self, index):
        return f"picture {index}"


@pytest.fixture
def source(picture):
    return Pictures([picture(seed, 20, 24) for seed in range(7)])


def front(images):
    return images.astype(np.float32).mean(axis=(1, 2)) / 255


def embedded(source, folder, views=2, front=front, **made_by):
    return features.embed_split(
        source,
        front,
        folder=folder,
        made_by=made_by,
        views=views,
        batch_size=4,
        transform=TRANSFORM,
        num_threads=0,
    )


def test_the_first_view_of_an_image_is_the_evaluation_view(source, tmp_path):
    computed = embedded(source, tmp_path).features
    expected = [front(transforms.evaluation_view(source[i]["image"], TRANSFORM)[None])[0] for i in range(7)]
    assert computed.shape == (7, 3, 3)
    np.testing.assert_array_equal(computed[:, 0], expected)


def test_augmented_views_differ_from_each_other(source, tmp_path):
    computed = embedded(source, tmp_path).features
    assert (computed[:, 1] != computed[:, 2]).any(axis=1).all()


def test_features_are_computed_once(source, tmp_path):
    first = embedded(source, tmp_path).features
    again = embedded(source, tmp_path, front=None).features
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("change", [{"views": 1}, {"weights": "others"}])
def test_other_views_or_weights_are_computed_anew(source, tmp_path, change):
    embedded(source, tmp_path)
    calls = []
    embedded(source, tmp_path, front=lambda images: calls.append(1) or front(images), **change)
    assert calls


def test_a_training_batch_takes_one_augmented_view_of_each_image(source, tmp_path):
    cached = embedded(source, tmp_path)
    plan = np.array([[6, 0, 2], [1, 1, 5]])
    for step, batch in enumerate(features.training_feature_batches(cached, plan, seed=3, epoch=1)):
        for row, index in enumerate(plan[step]):
            assert any((batch["image"][row] == cached.features[index, view]).all() for view in (1, 2))
        np.testing.assert_array_equal(batch["label"], cached.labels[plan[step]])


def test_views_are_drawn_alike_and_anew_each_epoch(source, tmp_path):
    cached = embedded(source, tmp_path)
    plan = np.zeros((50, 4), int)
    drawn = [
        np.concatenate(
            [b["image"][:, 0] for b in features.training_feature_batches(cached, plan, seed=0, epoch=e)]
        )
        == cached.features[0, 1, 0]
        for e in (0, 1)
    ]
    assert 0.4 < np.mean(drawn[0]) < 0.6
    assert (drawn[0] != drawn[1]).any()


def test_a_later_start_and_shards_give_the_same_rows(source, tmp_path):
    cached = embedded(source, tmp_path)
    plan = np.random.default_rng(0).integers(0, 7, (5, 4))
    whole = list(features.training_feature_batches(cached, plan, seed=1, epoch=2))
    late = list(features.training_feature_batches(cached, plan, seed=1, epoch=2, start_step=3))
    halves = [
        list(features.training_feature_batches(cached, plan, seed=1, epoch=2, shard=(s, 2))) for s in (0, 1)
    ]
    np.testing.assert_array_equal(late[0]["image"], whole[3]["image"])
    for step in range(5):
        joined = np.concatenate([half[step]["image"] for half in halves])
        np.testing.assert_array_equal(joined, whole[step]["image"])


def test_evaluation_gives_every_image_once_and_pads(source, tmp_path):
    cached = embedded(source, tmp_path)
    batches = list(features.evaluation_feature_batches(cached, batch_size=4))
    index = np.concatenate([b["index"] for b in batches])
    assert index.tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches])[:7], cached.features[:, 0])
    assert not batches[1]["mask"][3]
    assert not batches[1]["image"][3].any()


def test_without_augmented_views_training_sees_the_evaluation_view(source, tmp_path):
    cached = embedded(source, tmp_path, views=0)
    batch = next(features.training_feature_batches(cached, np.array([[2, 3]]), seed=0, epoch=0))
    np.testing.assert_array_equal(batch["image"], cached.features[[2, 3], 0])


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"features cannot be kept in .*file"):
        embedded(source, tmp_path / "file")
