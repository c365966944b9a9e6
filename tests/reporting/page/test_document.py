"""The page as a file: nothing that users give is markup, scripts run by digest alone, nothing is fetched."""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "browser"))

from pages import CLASSES, NAMES, page, results, shown

from cdml_jax.confusion.figures import accuracy
from cdml_jax.data import Classes
from cdml_jax.errors import UserError
from cdml_jax.reporting import page as page_package
from cdml_jax.reporting.page.document import inert, write_page
from cdml_jax.reporting.page.drawings import by_epoch, figures
from cdml_jax.reporting.page.pictures import small_pictures
from cdml_jax.reporting.page.shown import Picture, Shown, as_shown
from cdml_jax.reporting.table import tabulate


class Parsed(HTMLParser):
    """Scripts, policy and elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.tags, self.policy, self.attributes, self._inside = [], [], "", [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        found = dict(attributes)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        if tag == "script":
            self._inside = found.get("type", "")
            self.scripts.append((self._inside, ""))

    def handle_endtag(self, tag):
        if tag == "script":
            self._inside = None

    def handle_data(self, data):
        if self._inside is not None:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return page(folder).read_text(encoding="utf-8"), folder


def data_of(text):
    return json.loads(next(script for kind, script in Parsed(text).scripts if kind == "application/json"))


def test_scripts_run_by_their_digests_alone(text):
    parsed = Parsed(text[0])
    # The drawing library lies there as text until something is drawn.
    assert [kind for kind, _ in parsed.scripts] == ["application/json", "text/plain", ""]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for _, s in parsed.scripts[1:]]
    allowed = re.search(r"script-src ([^;]*);", parsed.policy)[1].split()
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert "unsafe-eval" not in parsed.policy
    assert parsed.policy.startswith("default-src 'none'")
    addresses = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert all(value.startswith("#") for value in addresses)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_what_users_give_is_text(text):
    found, _ = text
    parsed = Parsed(found)
    assert {"b", "i", "img"}.isdisjoint(parsed.tags)
    assert "\x1b" not in found
    data = data_of(found)
    assert tuple(data["classes"]) == NAMES
    assert "</td>" in data["methods"][1]["title"]
    assert inert({"a": "</script><!--\u2028"}) == '{"a":"\\u003c/script\\u003e\\u003c!--\\u2028"}'
    label = data["figures"]["weights"][0][1][0]["name"]
    assert "<" not in label
    assert "&lt;b&gt;bold&lt;/b&gt; $x^2$ &amp;" in label


def test_numbers_are_those_of_the_results(text):
    found, folder = text
    data, kept = data_of(found), results()
    for k, method in enumerate(("baseline", "cdml")):
        counts = sum(result.test_counts for result in kept if result.method == method)
        dense = np.zeros((6, 6), int)
        for i, j, n in np.reshape(data["methods"][k]["counts"], (-1, 3)):
            dense[i, j] = n
        assert np.array_equal(dense, counts)
        mean = np.mean([accuracy(result.test_counts) for result in kept if result.method == method])
        assert f"{100 * mean:.2f}" in found
    assert [run["called"] for run in data["runs"]] == [
        result.test.top_classes[:, 0].tolist() for result in kept
    ]
    assert data["names"][: data["held"]] == list(kept[0].test.names)
    assert (data["pairs"][0]["true"], data["pairs"][0]["called"], data["pairsApart"]) == (2, 3, True)
    assert data["suspects"][0][:3] == [0, 0, 5]
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "predictions.csv",
        "classes.csv",
        "pairs.csv",
        "suspects.csv",
    }
    assert by_epoch(kept[:2], "validation_accuracy") == [
        [1, 60, 60, 60, 2],
        [2, 70, 70, 70, 2],
        [3, 80, 80, 80, 2],
    ]
    curves = {label: traces for label, traces, _ in figures(shown())["curve"]}
    assert curves["softmax loss"][1]["y"] == [2, 1, 0.666667]


def test_small_pictures_carry_nothing_and_lie_beside_a_large_page(tmp_path):
    camera = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCamera"  # turned by a quarter
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(camera, "JPEG", exif=exif, quality=100)
    files = {"a": camera.getvalue(), "b": camera.getvalue(), "c": b"no image", "d": noise[:50, :40]}
    small = small_pictures([Picture("test", name, 0) for name in files], files.__getitem__)
    assert len(camera.getvalue()) > 200_000
    assert b"SecretCamera" in camera.getvalue()
    assert b"SecretCamera" not in small.files[0]
    assert Image.open(io.BytesIO(small.files[0])).size == (96, 160)
    assert Image.open(io.BytesIO(small.files[3])).size == (40, 50)
    assert small.copies == [[0, 1]]
    assert small.unread[0] == 1
    assert small.files[2] == b""
    written = write_page(shown(), tmp_path / "large.html", inside=100)
    data = data_of(written.page.read_text(encoding="utf-8"))
    assert data["folder"] == "large_files/"
    assert len(list((tmp_path / "large_files").iterdir())) == len(data["names"]) == 60
    write_page(shown(), tmp_path / "large.html")
    assert not (tmp_path / "large_files").exists()


def test_pages_of_less(tmp_path):
    """Without images, without predictions, on validation images, of no evaluation at all."""
    bare = page(tmp_path, open=None).read_text(encoding="utf-8")
    assert "not at hand" in bare
    assert data_of(bare)["thumbs"] == []
    table = tabulate(results()[:1], CLASSES)
    seen = as_shown(table, "validation")
    text = page(tmp_path, table=seen, split="validation").read_text(encoding="utf-8")
    assert "same validation images" not in text
    only = {"true": 2, "called": 3, "number": 6, "images": 15, "note": "", "changes": [""]}
    assert data_of(text)["pairs"][0] == only
    import dataclasses

    nothing = [
        dataclasses.replace(r, test=None, test_counts=0 * r.test_counts, validation_counts=0 * r.test_counts)
        for r in results()[:1]
    ]
    text = page(tmp_path, table=tabulate(nothing, CLASSES)).read_text(encoding="utf-8")
    assert "cdml evaluate" in text
    assert "Learning curves" in text
    assert "Confusion matrix" not in text
    many = Classes(tuple(map(str, range(6_000))))
    with pytest.raises(UserError, match="6,000 classes are more than the 5,000"):
        write_page(Shown("many", dataclasses.replace(table, classes=many), "test"), tmp_path / "many.html")


def test_the_pages_own_script_stays_small():
    lines = (
        (Path(page_package.__file__).parent / "templates" / "page.js")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    assert len(lines) <= 500
    assert max(map(len, lines)) <= 120
    assert not [line for line in lines if "innerHTML" in line or "eval(" in line or "http" in line]
