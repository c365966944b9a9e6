"""Whole objects in a bucket, copies of them on this machine, and what is said where there is no bucket."""

import importlib.util
import os
import time
from unittest import mock

import pytest
from etils import epath

from cdml_jax.data.sources import images_cache
from cdml_jax.errors import UserError
from cdml_jax.system import buckets, compilation_cache, copies, files
from cdml_jax.system.compilation_cache import keep_compiled


@pytest.fixture(autouse=True)
def objects(stand_in, bucket):
    """Of an empty bucket, by their names."""
    stand_in.refused.clear()
    stand_in.buckets["bucket"].clear()
    buckets._refuse_unreachable.cache_clear()
    return stand_in.buckets["bucket"]


def content(objects, name):
    return objects[name][1]


def test_an_object_is_written_whole_or_not_at_all(objects, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = files.path_of("gs://bucket/runs/one/a.json")
    files.write_json(path, {"a": 1})
    assert content(objects, "runs/one/a.json") == b'{\n "a": 1\n}\n'
    before = objects["runs/one/a.json"]
    files.write_json(path, {"a": 1})
    assert objects["runs/one/a.json"] == before  # it holds that already

    def stop():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert objects["runs/one/a.json"] == before
    assert sorted(objects) == ["runs/one/a.json"]
    large = os.urandom(12_000_000)  # in several pieces
    files.write_bytes(path, large)
    assert content(objects, "runs/one/a.json") == path.read_bytes() == large
    assert files.size(path) == 12_000_000


def test_what_another_wrote_is_seen_at_once(objects):
    folder = files.path_of("gs://bucket/runs")
    assert files.entries(folder) == []
    objects["runs/a"] = (1, b"")
    assert [path.name for path in files.entries(folder)] == ["a"]
    objects["runs/b"] = (2, b"")
    assert [path.name for path in files.entries(folder)] == ["a", "b"]
    assert (folder / "b").exists()
    del objects["runs/b"]
    assert not (folder / "b").exists()


def test_the_mark_of_a_folder_goes_first_and_comes_last(stand_in, objects, tmp_path):
    for name in ("mark", "variables/a", "variables/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    objects |= {"x/model/mark": (1, b"old"), "x/model/older": (2, b"old"), "x/models": (3, b"other")}
    stand_in.requests.clear()
    buckets.upload_folder(tmp_path, "gs://bucket/x/model", last="mark")
    assert {name: text.decode() for name, (_, text) in objects.items()} == {
        "x/model/mark": "mark",
        "x/model/variables/a": "variables/a",
        "x/model/variables/b": "variables/b",
        "x/models": "other",
    }
    first, *others = [path for method, path in stand_in.requests if method == "DELETE"]
    assert first.endswith("/x/model/mark")
    assert any(path.endswith("/x/model/older") for path in others)
    assert objects["x/model/mark"][0] == max(generation for generation, _ in objects.values())
    stand_in.refused["upload"] = 400
    with (
        pytest.raises(UserError, match="gs://bucket/x/model cannot be written"),
        files.writing("gs://bucket/x/model"),
    ):
        buckets.upload_folder(tmp_path, "gs://bucket/x/model", last="mark")
    assert "x/model/mark" not in objects


def test_a_copy_is_made_once_for_the_same_objects(stand_in, objects, tmp_path, monkeypatch):
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path))
    large = os.urandom(100_000)
    objects |= {"set/a": (1, b"a"), "set/deep/b": (2, large), "set/.lock": (3, b""), "sets/c": (4, b"")}
    folder = files.path_of("gs://bucket/set")
    first = copies.copied(folder)
    assert not buckets.in_bucket(first)
    assert sorted(path.name for path in first.iterdir()) == ["a", "deep"]
    assert (first / "deep/b").read_bytes() == large
    stand_in.requests.clear()
    assert copies.copied(folder) == first
    assert all("/o/" not in path for _, path in stand_in.requests)  # listed, not read
    objects["set/a"] = (5, b"A")
    second = copies.copied(folder)
    assert (second / "a").read_bytes() == b"A"
    assert (first / "a").read_bytes() == b"a"
    assert copies.copied(epath.Path(tmp_path)) == epath.Path(tmp_path)
    with pytest.raises(UserError, match=r"^gs://bucket/none: there is no such folder in the bucket"):
        copies.copied(files.path_of("gs://bucket/none"))


def test_a_copy_that_fails_leaves_nothing_that_looks_like_one(stand_in, objects, tmp_path, monkeypatch):
    monkeypatch.setenv("CDML_DATA_DIR", str(tmp_path))
    objects |= {"set/a": (1, b"a"), "set/b": (2, b"b")}
    stand_in.refused["GET .*/o/set/b"] = 404
    with pytest.raises(UserError, match=r"^gs://bucket/set: set/b cannot be copied \(404 "):
        copies.copied(files.path_of("gs://bucket/set"))
    assert [path.name for path in (tmp_path / "buckets").iterdir() if path.name[0] != "."] == []
    stand_in.refused.clear()
    assert (copies.copied(files.path_of("gs://bucket/set")) / "b").read_bytes() == b"b"
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: mock.Mock(free=1))
    objects["set/a"] = (3, b"aa")
    with pytest.raises(
        UserError, match=r"^gs://bucket/set: a copy of it takes .*set CDML_DATA_DIR to a folder"
    ):
        copies.copied(files.path_of("gs://bucket/set"))


def test_a_bucket_that_is_not_there_or_closed_is_named(stand_in):
    with pytest.raises(UserError, match=r"^gs://none: there is no such bucket; make it, or choose another$"):
        files.path_of("gs://none/runs/one")
    assert "none" not in stand_in.buckets
    stand_in.refused["/b/bucket/o$"] = 403
    with pytest.raises(UserError, match=r"^gs://bucket: this account may not use it .*objectUser"):
        files.path_of("gs://bucket/run")
    with pytest.raises(UserError, match=r"^gs:// names no bucket: write gs://BUCKET/FOLDER$"):
        files.path_of("gs://")
    with pytest.raises(UserError, match=r"^gs://-b: Bucket names must start and end with"):
        files.path_of("gs://-b/run")


def test_a_bucket_that_does_not_answer_is_named_within_seconds(monkeypatch):
    monkeypatch.setattr(buckets, "_TRIES_SECONDS", 0.5)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^gs://bucket cannot be reached \(.*Connection.* run the same"):
        files.path_of("gs://bucket/run")
    assert time.monotonic() - began < 10  # Google's own patience is two minutes


@pytest.mark.parametrize("text", ["gs:/bucket/run", "gs:bucket", "GS://bucket/run", " gs://bucket", "gs:"])
def test_what_is_nearly_a_bucket_makes_no_folder_of_this_machine(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^'{text}' is not a bucket's path: write gs://BUCKET/FOLDER$"):
        files.path_of(text)
    assert not list(tmp_path.iterdir())


def test_credentials_need_not_know_a_project(monkeypatch):
    from google.auth import credentials
    from google.cloud import storage

    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.setattr("google.auth.default", lambda **_: (credentials.AnonymousCredentials(), None))
    monkeypatch.setattr(storage.Client, "list_blobs", lambda self, bucket, **_: [bucket])
    files.path_of("gs://bucket/run")


def test_without_credentials_it_is_said_how_to_get_them(monkeypatch):
    from google.auth import exceptions
    from google.cloud import storage

    def nobody(**_):
        raise exceptions.DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr(storage, "Client", nobody)
    with pytest.raises(
        UserError, match=r"does not know who asks \(Your .*gcloud auth application-default login"
    ):
        files.path_of("gs://bucket/run")


def test_without_the_extra_a_line_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gcsfs" else found(name))
    with pytest.raises(
        UserError, match=r"^gs://bucket/run: a bucket needs gcsfs: pip install 'cdml_jax\[gcs\]'$"
    ):
        files.path_of("gs://bucket/run")


@pytest.mark.parametrize("scheme", ["s3", "az", "hf"])
def test_other_buckets_are_refused(scheme):
    with pytest.raises(UserError, match=f"^{scheme}://a/b: {scheme}:// is neither read nor written; fetch"):
        files.path_of(f"{scheme}://a/b")


def test_caches_stay_on_this_machine(monkeypatch):
    monkeypatch.setattr(compilation_cache, "jax", mock.Mock(config=mock.Mock(jax_compilation_cache_dir=None)))
    monkeypatch.setenv("CDML_DATA_DIR", "gs://bucket/cache")
    for cache in (files.cache_directory, lambda: images_cache(""), lambda: keep_compiled("auto")):
        with pytest.raises(UserError, match=r"^CDML_DATA_DIR: gs://bucket/cache: caches are kept on a disk"):
            cache()
    monkeypatch.setenv("CDML_DATA_DIR", "gs:/bucket/cache")
    for cache in (lambda: images_cache(""), lambda: keep_compiled("auto")):
        with pytest.raises(UserError, match=r"^'gs:/bucket/cache' is not a bucket's path"):
            cache()
