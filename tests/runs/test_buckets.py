"""What a run keeps beside its checkpoints goes to a bucket as to a disk; the bucket here is memory's."""

from typing import ClassVar
from unittest import mock

import fsspec
import numpy as np
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from cdml_jax.configuration.settings import changed
from cdml_jax.errors import UserError
from cdml_jax.reporting import results
from cdml_jax.reporting.results import RunResult
from cdml_jax.runs import workdir
from cdml_jax.runs.log import Writers
from cdml_jax.system import files


class Bucket(MemoryFileSystem):
    protocol = "s3"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("s3://"))


@pytest.fixture
def bucket():
    fsspec.register_implementation("s3", Bucket, clobber=True)
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    return epath.Path("s3://bucket/runs")


def test_results_come_back(bucket):
    counts = np.array([[3, 1], [0, 4]])
    result = RunResult("cdml", 2, 10, 1.5, counts, counts.T.copy(), [{"epoch": 1, "loss": 0.5}])
    results.save(result, bucket / "results")
    (found,) = results.load(bucket / "results")
    np.testing.assert_array_equal(found.test_counts, counts.T)
    assert results.write_rows([found], bucket)[0].exists()


def test_a_workdir_is_claimed(bucket, config):
    workdir.claim(bucket, "train", config, "images")
    workdir.claim(bucket, "train", config, "images")
    assert workdir.read(bucket)["fingerprint"] == "images"
    with pytest.raises(UserError, match="another configuration"):
        workdir.claim(bucket, "train", changed(config, {"batch_size": 8}), "images")


def test_the_log_is_whole_after_every_epoch(bucket, monkeypatch):
    monkeypatch.setattr("cdml_jax.runs.log.EventsWriter", mock.Mock())
    writers = Writers(bucket, [{"epoch": 1, "loss": 0.5}])
    assert (bucket / "metrics.jsonl").read_text().count("\n") == 1
    writers.write({"epoch": 2, "loss": 0.25})
    assert (bucket / "metrics.jsonl").read_text().splitlines()[1] == '{"epoch": 2, "loss": 0.25}'
    writers.close()


def test_a_package_that_tensorboard_needs_there_is_named(bucket):
    with pytest.raises(UserError, match="boto3"):
        Writers(bucket, [])


def test_a_bucket_has_no_locks_which_is_said(bucket, capsys):
    with files.locked(bucket / ".lock", "busy"):
        assert "a bucket has no locks" in capsys.readouterr().err
