import gc
import threading

import numpy as np
import pytest
from messages import like

from cdml_jax.data.feeds.batches import CachedSource, cached, evaluation_batches, training_batches
from cdml_jax.data.images import transforms
from cdml_jax.data.images.transforms import Transform
from cdml_jax.errors import UserError

TRANSFORM = Transform(8, jitter=0.1)
PLAN = np.array([[3, 0, 5, 1], [2, 6, 4, 0], [1, 5, 6, 3]], np.int32)
LABELS = [4, 0, 2, 2, 1, 3, 0]


@pytest.fixture
def source(memory_source):
    return memory_source(LABELS)


def _epoch(source, **options):
    return list(training_batches(source, PLAN, **{"seed": 1, "epoch": 2, "transform": TRANSFORM, **options}))


def _assert_equal(these, those):
    assert len(these) == len(those)
    for this, that in zip(these, those):
        assert this.keys() == that.keys() == {"image", "label", "mask", "index"}
        for key in this:
            np.testing.assert_array_equal(this[key], that[key])


def test_batches_follow_the_plan(source):
    batches = _epoch(source)
    np.testing.assert_array_equal([b["index"] for b in batches], PLAN)
    np.testing.assert_array_equal([b["label"] for b in batches], np.array(LABELS)[PLAN])
    assert all(b["mask"].all() for b in batches)


def test_batches_have_the_promised_shapes_and_types(source):
    batch = _epoch(source)[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((4, 8, 8, 3), "uint8"),
        "label": ((4,), "int32"),
        "mask": ((4,), "bool"),
        "index": ((4,), "int32"),
    }


@pytest.mark.parametrize("num_threads", [0, 1, 5])
def test_batches_do_not_depend_on_the_number_of_threads(source, num_threads):
    _assert_equal(_epoch(source, num_threads=num_threads), _epoch(source, num_threads=2))


@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_the_slices_of_the_global_batch(source, count):
    shards = [_epoch(source, shard=(i, count)) for i in range(count)]
    joined = [{k: np.concatenate([s[step][k] for s in shards]) for k in shards[0][0]} for step in range(3)]
    _assert_equal(joined, _epoch(source))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_resumed_epoch_gives_what_the_whole_one_would_have(source, start):
    _assert_equal(_epoch(source, start_step=start), _epoch(source)[start:])


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 3}])
def test_another_seed_or_epoch_augments_differently(source, change):
    assert (_epoch(source, **change)[0]["image"] != _epoch(source)[0]["image"]).any()


def test_one_image_at_two_positions_is_augmented_twice(memory_source):
    plan = np.zeros((2, 3), np.int32)
    batches = training_batches(memory_source([0]), plan, seed=0, epoch=0, transform=TRANSFORM)
    views = np.concatenate([b["image"] for b in batches])
    assert len(np.unique(views.reshape(6, -1), axis=0)) == 6


def test_encoded_images_are_decoded(memory_source, picture, png):
    images = [picture(i, 9, 11) for i in range(7)]
    _assert_equal(
        _epoch(memory_source(LABELS, [png(i) for i in images])), _epoch(memory_source(LABELS, images))
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 10])
def test_evaluation_gives_every_image_once_whatever_the_batch_size(source, batch_size):
    batches = list(evaluation_batches(source, batch_size=batch_size, transform=TRANSFORM))
    real = {k: np.concatenate([b[k][b["mask"]] for b in batches]) for k in batches[0]}
    assert {len(b["image"]) for b in batches} == {batch_size}
    assert real["index"].tolist() == list(range(7))
    assert real["label"].tolist() == LABELS
    for index, image in enumerate(real["image"]):
        np.testing.assert_array_equal(image, transforms.evaluation_view(source.image(index), TRANSFORM))


def test_evaluation_padding_is_black_masked_and_of_no_image(source):
    last = list(evaluation_batches(source, batch_size=5, transform=TRANSFORM))[-1]
    assert last["mask"].tolist() == [True, True, False, False, False]
    assert last["index"].tolist() == [5, 6, -1, -1, -1]
    assert not last["label"][2:].any()
    assert not last["image"][2:].any()


@pytest.mark.parametrize("count", [2, 6])
def test_evaluation_shards_have_equally_many_batches_and_share_the_images(source, count):
    shards = [
        list(evaluation_batches(source, batch_size=6, transform=TRANSFORM, shard=(i, count)))
        for i in range(count)
    ]
    joined = [{k: np.concatenate([s[step][k] for s in shards]) for k in shards[0][0]} for step in range(2)]
    assert {len(shard) for shard in shards} == {2}
    _assert_equal(joined, list(evaluation_batches(source, batch_size=6, transform=TRANSFORM)))


def test_a_batch_that_the_processes_do_not_divide_is_refused_at_once(source):
    with pytest.raises(
        UserError, match=like("batch_size (4) must be a positive multiple of the 3 processes")
    ):
        training_batches(source, PLAN, seed=0, epoch=0, transform=TRANSFORM, shard=(0, 3))


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_image_that_fails_in_a_worker_is_named(memory_source, picture, png, num_threads):
    images = [png(picture(i)) for i in range(7)]
    images[6] = images[6][:50]
    batches = training_batches(
        memory_source(LABELS, images), PLAN, seed=0, epoch=0, transform=TRANSFORM, num_threads=num_threads
    )
    next(batches)
    with pytest.raises(UserError, match=r"memory\[6\]: truncated"):
        next(batches)


def _workers():
    return {thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")}


@pytest.mark.parametrize("end", ["close", "forget"])
def test_an_iterator_that_is_left_early_ends_its_threads(source, end):
    others = _workers()
    plan = np.tile(PLAN, (50, 1))
    batches = training_batches(source, plan, seed=0, epoch=0, transform=TRANSFORM, num_threads=3)
    next(batches)
    started = _workers() - others
    assert started
    if end == "close":
        batches.close()
    del batches
    gc.collect()
    for thread in started:
        thread.join(5)
    assert not any(thread.is_alive() for thread in started)


def test_a_batch_is_not_overwritten_by_later_ones(source):
    batches = training_batches(source, PLAN, seed=0, epoch=0, transform=TRANSFORM)
    first = next(batches)
    copy = {k: v.copy() for k, v in first.items()}
    list(batches)
    _assert_equal([first], [copy])


def test_a_cached_source_gives_the_same_batches(memory_source, picture, png):
    encoded = memory_source(LABELS, [png(picture(i, 9, 11)) for i in range(7)])
    kept = CachedSource(encoded)
    _assert_equal(_epoch(kept), _epoch(encoded))
    assert kept.name(3) == "memory[3]"


def test_a_cached_source_decodes_each_image_once(memory_source, monkeypatch):
    source, reads = memory_source(LABELS), []
    read = source.image
    monkeypatch.setattr(source, "image", lambda index: reads.append(index) or read(index))
    kept = CachedSource(source)
    for _ in range(3):
        _epoch(kept)
    assert sorted(reads) == list(range(7))


def test_a_cached_source_can_keep_smaller_images(memory_source, picture):
    kept = CachedSource(memory_source([0, 1], [picture(0, 30, 40), picture(1, 8, 6)]), 15)
    assert [kept.image(i).shape for i in range(2)] == [(15, 20, 3), (8, 6, 3)]


def test_images_are_cached_where_they_fit(source):
    total = 7 * 9 * 11 * 3
    assert isinstance(cached(source, total), CachedSource)
    assert cached(source, total - 1) is source
