"""All of the page in a real browser: `make test-page` runs it; the gate runs the smoke test alone."""

import csv

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import CLASSES, NAMES, page, results, shown

from cdml_jax.data import Classes
from cdml_jax.reporting.page.shown import Shown
from cdml_jax.reporting.page.unlabelled import write_unlabelled
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return page(tmp_path_factory.mktemp("page"))


def drawn(found, name):
    """Scrolls to a drawing; returns it once it is drawn."""
    plot = found.locator(f"#{name}")
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()
    return plot


def everything_drawn(found):
    for name in ("matrix-plot", "map-plot", "calibration-plot", "curve-plot", "weights-plot"):
        drawn(found, name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_inaccessible_or_too_wide(path, opened, scheme, width):
    found = opened(path, scheme=scheme, width=width)
    assert found.evaluate("document.documentElement.dataset.theme") == scheme
    everything_drawn(found)
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    results = Axe().run(found)
    assert results.violations_count == 0, results.generate_report()
    found.locator("#gallery button").first.click()
    results = Axe().run(found)
    assert results.violations_count == 0, results.generate_report()


def test_a_click_on_the_matrix_opens_the_cells_images(path, opened):
    found = opened(path)
    plot = drawn(found, "matrix-plot")
    # Row 2, column 3 of the order by kinship, in which the classes stand as they are.
    area = plot.locator(".nsewdrag").first.bounding_box()
    x, y = area["x"] + area["width"] * 3.5 / 6, area["y"] + area["height"] * 2.5 / 6
    found.mouse.move(x, y)
    found.locator("#tip").wait_for(state="visible")
    counts = sum(result.test_counts for result in results() if result.method == "baseline")
    tip = found.locator("#tip").inner_text()
    assert f"{counts[2, 3]} of {counts[2].sum() // 2} × 2" in tip
    assert NAMES[2] in tip
    assert NAMES[3] in tip
    found.mouse.click(x, y)
    title = found.locator("#list-title").inner_text()
    assert title.startswith(f"{NAMES[2]} called {NAMES[3]} by Baseline")
    found.keyboard.press("Escape")
    assert not found.locator("#list").is_visible()


def test_classes_are_sorted_and_follow_the_method(path, opened):
    found = opened(path)
    rows = found.locator("#class-table tbody tr")
    assert rows.count() == 6
    found.locator("#class-table thead button", has_text="recall").click()
    recalls = [float(rows.nth(k).locator("td").nth(2).inner_text()) for k in range(6)]
    assert recalls == sorted(recalls, reverse=True)
    found.locator("#class-table thead button", has_text="recall").click()
    recalls = [float(rows.nth(k).locator("td").nth(2).inner_text()) for k in range(6)]
    assert recalls == sorted(recalls)
    counts = sum(result.test_counts for result in results() if result.method == "baseline")
    assert recalls == pytest.approx(np.sort(100 * np.diag(counts) / counts.sum(1)), abs=0.05)
    found.locator("#method").select_option(index=1)
    assert "recall, change" in found.locator("#class-table thead").inner_text()
    assert "CDML </td>" in found.locator("#how-many").inner_text()


def test_the_search_and_the_keys(path, opened):
    found = opened(path)
    found.keyboard.press("/")
    found.keyboard.type("红雀")
    found.locator("#class-table tbody tr").nth(1).wait_for(state="detached")
    assert found.locator("#class-table tbody tr").count() == 1
    assert found.locator("article.card").count() == 1
    found.locator("#search").fill("nothing is called so")
    found.locator("#no-cards").wait_for(state="visible")
    found.locator("#search").fill("")
    found.locator("#which").select_option("all")
    found.wait_for_timeout(300)
    first = found.locator("#gallery button").first
    first.focus()
    found.keyboard.press("Enter")
    note = found.locator("#detail-body .note").first
    assert note.inner_text().endswith("0-0.png (test)")
    found.keyboard.press("ArrowRight")
    assert note.inner_text().endswith("0-1.png (test)")
    assert found.locator("#detail-body .gallery figure").count() == 8
    found.keyboard.press("ArrowLeft")
    found.keyboard.press("Escape")
    assert not found.locator("#detail").is_visible()


def test_suspects_are_listed_and_saved(path, opened, tmp_path):
    found = opened(path)
    assert found.locator("#suspect-list button").first.get_attribute("data-image") == "0"
    with found.expect_download() as download:
        found.locator("#export").click()
    download.value.save_as(tmp_path / "suspects.csv")
    rows = list(csv.DictReader((tmp_path / "suspects.csv").open(newline="", encoding="utf-8")))
    assert (rows[0]["class"], rows[0]["suggested"]) == (NAMES[0], NAMES[5])


def test_names_of_every_script_stand_as_they_are(path, opened):
    found = opened(path)
    everything_drawn(found)
    assert found.evaluate("window.hacked") is None
    texts = found.locator("#matrix-plot .ytick text").all_text_contents()
    assert "红雀 小嘴乌鸦" in texts
    assert "عصفور الدوري" in texts
    assert any(text.startswith("<b>bold</b> $x^2$") for text in texts)
    assert (
        found.locator("#class-table bdi", has_text="عصفور").first.evaluate(
            "e => getComputedStyle(e).unicodeBidi"
        )
        == "isolate"
    )


def test_a_thousand_classes_open(tmp_path, opened):
    rng = np.random.default_rng(0)
    labels = np.arange(4_000) % 1_000
    called = np.where(rng.random(4_000) < 0.4, rng.integers(0, 1_000, 4_000), labels)
    counts = np.zeros((1_000, 1_000), int)
    np.add.at(counts, (labels, called), 1)
    said = Predictions(
        tuple(f"{i}.png" for i in range(4_000)),
        labels,
        np.stack([called, (called + 1) % 1_000], 1),
        np.full((4_000, 2), 0.4),
        np.full(4_000, 0.4),
    )
    table = tabulate(
        [RunResult("cdml", 0, 1, 1.0, 0 * counts, counts, test=said)],
        Classes(tuple(f"class {i}" for i in range(1_000))),
    )
    path = page(tmp_path, table=table, open=None)
    found = opened(path)
    drawn(found, "matrix-plot")
    assert found.locator("#class-table tbody tr").count() == 1_000
    seconds = found.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    assert seconds < 4


def test_images_without_labels(tmp_path, opened):
    rng = np.random.default_rng(0)
    top = np.stack([rng.permutation(6)[:5] for _ in range(20)])
    files = {f"<i>{k}.png": rng.integers(0, 256, (30, 30, 3), dtype=np.uint8) for k in range(20)}
    path = write_unlabelled(
        tmp_path / "folder.html",
        run="runs/<mine>",
        names=list(files),
        class_names=NAMES,
        top_classes=top,
        top_probabilities=np.sort(rng.dirichlet(np.ones(5), 20), axis=1)[:, ::-1],
        neighbours=rng.integers(0, 20, (20, 8)),
        similarities=np.ones((20, 8)),
        places=rng.random((20, 2)),
        open_image=files.__getitem__,
    )
    found = opened(path)
    drawn(found, "map-plot")
    assert found.locator("#gallery figure").count() == 20
    row = found.locator("#class-table tbody tr").first
    times = int(row.locator("td").first.inner_text())
    assert times == np.bincount(top[:, 0]).max()
    row.locator("button").click()
    assert found.locator("#list-body figure").count() == times
    assert Axe().run(found).violations_count == 0


def test_single_runs_and_runs_without_answers(tmp_path, opened):
    table = tabulate(results()[:1], CLASSES)
    found = opened(page(tmp_path, table=table))
    everything_drawn(found)
    bare = tabulate(
        [RunResult("cdml", 0, 1, 1.0, 0 * results()[0].test_counts, results()[0].test_counts)], CLASSES
    )
    found = opened(page(tmp_path, table=bare))
    drawn(found, "matrix-plot")
    assert "was not kept" in found.locator("#how-many").inner_text()
    empty = tabulate(
        [RunResult("cdml", 0, 1, 1.0, 0 * results()[0].test_counts, 0 * results()[0].test_counts)], CLASSES
    )
    found = opened(page(tmp_path, table=empty))
    assert found.locator("#curve-plot").count() == 1
    assert shown().first == "baseline"
    assert isinstance(shown(), Shown)
