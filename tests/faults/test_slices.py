"""What one host of several reads: its rows of each batch and no other, and as many batches as any other."""

import numpy as np
import pytest

from cdml_jax.data import ArraySource
from cdml_jax.data.feeds.batches import evaluation_batches, training_batches
from cdml_jax.data.images.transforms import Transform

TRANSFORM = Transform(8)


class Recording(ArraySource):
    """Thirteen images, and which of them were read."""

    def __init__(self):
        super().__init__(np.zeros((13, 9, 9, 3), np.uint8), np.arange(13) % 3)
        self.read = []

    def image(self, index):
        self.read.append(index)
        return super().image(index)


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts_evaluate_equally_many_batches_and_each_reads_its_rows_alone(hosts):
    read = []
    for index in range(hosts):
        source = Recording()
        batches = evaluation_batches(
            source, batch_size=8, transform=TRANSFORM, shard=(index, hosts), num_threads=0
        )
        assert [len(batch["label"]) for batch in batches] == [8 // hosts] * 2
        share = 8 // hosts
        rows = [step * 8 + index * share + row for step in range(2) for row in range(share)]
        assert source.read == [row for row in rows if row < 13]
        read += source.read
    assert sorted(read) == list(range(13))


@pytest.mark.parametrize("hosts", [2, 4])
def test_a_host_reads_its_slice_of_the_plan_alone(hosts):
    plan = np.random.default_rng(0).permutation(13)[:8].reshape(2, 4)
    for index in range(hosts):
        source = Recording()
        options = {"seed": 0, "epoch": 0, "transform": TRANSFORM, "num_threads": 0}
        list(training_batches(source, plan, **options, shard=(index, hosts)))
        share = 4 // hosts
        assert source.read == plan[:, index * share : (index + 1) * share].ravel().tolist()
