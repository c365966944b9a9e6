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
    # Nothing opens where nothing was called so.
    assert counts[2, 0] == 0
    found.mouse.move(area["x"] + area["width"] * 0.5 / 6, y, steps=3)
    found.locator("#tip", has_text=f"0 of {counts[2].sum() // 2} × 2").wait_for()
    found.mouse.down()
    found.mouse.up()
    assert not found.locator("#list").is_visible()
    # A part, and the whole again.
    rows = plot.locator(".ytick text")
    assert rows.count() == 6
    found.mouse.move(area["x"] + area["width"] * 2.1 / 6, area["y"] + area["height"] * 2.1 / 6)
    found.mouse.down()
    found.mouse.move(area["x"] + area["width"] * 3.9 / 6, area["y"] + area["height"] * 3.9 / 6, steps=4)
    found.mouse.up()
    rows.nth(5).wait_for(state="detached")
    found.locator("#whole").click()
    rows.nth(5).wait_for()
    area = plot.locator(".nsewdrag").first.bounding_box()
    x, y = area["x"] + area["width"] * 3.5 / 6, area["y"] + area["height"] * 2.5 / 6
    found.mouse.move(x, y, steps=3)
    found.locator("#tip", has_text=f"{counts[2, 3]} of ").wait_for()
    found.mouse.down()
    found.mouse.up()
    title = found.locator("#list-title").inner_text()
    assert title.startswith(f"{NAMES[2]} called {NAMES[3]} by Baseline")
    found.keyboard.press("Escape")
    assert not found.locator("#list").is_visible()


def test_what_hovers_is_seen_whole_at_the_foot_of_the_window(path, opened):
    found = opened(path, height=600)
    plot = drawn(found, "matrix-plot")
    area = plot.locator(".nsewdrag").first.bounding_box()
    far = area["y"] + area["height"] * 2.5 / 6 - 580
    found.evaluate("far => scrollBy({top: far, behavior: 'instant'})", far)
    found.mouse.move(area["x"] + area["width"] * 3.5 / 6, 580, steps=3)
    found.locator("#tip img").wait_for()
    place = found.locator("#tip").bounding_box()
    assert place["height"] > 100
    assert place["y"] + place["height"] <= 600


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
    assert found.locator("#found").inner_text().startswith("1 class, 1 pair, ")
    for key in ("Enter", "ArrowDown"):
        found.locator("#search").press(key)
        assert found.evaluate("document.activeElement.closest('#class-table') !== null")
        assert NAMES[2] in found.evaluate("document.activeElement.innerText")
    found.locator("#search").fill("2-3.png")
    found.locator("#search").press("Enter")
    assert found.locator("#found").inner_text() == "1 image"
    assert found.locator("#no-classes").is_visible()
    assert found.evaluate("document.activeElement.dataset.image") == "23"
    found.locator("#search").fill("nothing is called so")
    found.locator("#found", has_text="nothing found").wait_for()
    assert found.locator("#no-cards").is_visible()
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
    heads = found.locator("#detail-body .texts thead th").all_inner_texts()
    assert heads == ["method", "seed 0", "seed 1"]
    found.keyboard.press("Escape")
    assert not found.locator("#detail").is_visible()
    found.wait_for_function("document.activeElement.dataset.image === '1'")


def answers_of(method):
    return [result.test for result in results() if result.method == method]


def test_captions_are_of_the_method_in_the_title(path, opened):
    found = opened(path)
    card = found.locator("article.card").first
    for row, method in enumerate(("baseline", "cdml")):
        runs = answers_of(method)
        labels, called = runs[0].labels, np.stack([run.top_classes[:, 0] for run in runs])
        card.locator("tbody tr").nth(row).locator("button").first.click()
        title = found.locator("#list-title").inner_text()
        times = ((labels == 2) & (called == 3)).sum(axis=0)
        assert f"in any of 2 seeds ({(times > 0).sum()} image" in title
        assert ("CDML </td>" in title) == (method == "cdml")
        figures = found.locator("#list-body figure")
        for k in range(figures.count()):
            image = int(figures.nth(k).locator("button").get_attribute("data-image"))
            words = figures.nth(k).locator("figcaption").inner_text()
            assert f"called {NAMES[3]} in {times[image]} of 2 seeds" in words
            rights = (called[:, image] == 2).sum()
            assert (f"rightly in {rights} of 2 seeds" in words) == (rights > 0)
        found.keyboard.press("Escape")
    # A class of the table: what the seeds of the chosen method said of each of its images.
    found.locator("#method").select_option(index=1)
    found.locator("#class-table tbody th button", has_text=NAMES[2]).click()
    assert "by CDML </td> (10 images)" in found.locator("#list-title").inner_text()
    rights = (called[:, labels == 2] == 2).sum(axis=0)
    words = found.locator("#list-body figcaption").all_inner_texts()
    assert [f"rightly in {n} of 2 seeds" in text for n, text in zip(rights, words)] == (rights > 0).tolist()


def test_comparisons_wait_for_a_second_method(path, opened):
    found = opened(path)
    assert found.locator("#difference").is_disabled()
    assert found.locator("#no-difference").is_visible()
    assert found.locator("#which option[value=fixed]").is_disabled()
    found.locator("#method").select_option(index=1)
    found.locator("#difference").check()
    found.locator("#which").select_option("fixed")
    assert found.locator("#which option[value=fixed]").inner_text() == "right here, wrong by Baseline"
    found.locator("#method").select_option(index=0)
    assert not found.locator("#difference").is_checked()
    assert found.locator("#which").input_value() == "wrong"
    assert found.locator("#gallery figure").count() > 0


def test_the_menu_reaches_its_sections(path, opened):
    for name in ("pairs", "matrix", "images", "map", "calibration", "moved"):
        found = opened(path, height=700)
        found.emulate_media(reduced_motion="reduce")  # no slow scrolling to wait for
        found.locator(f"nav a[href='#{name}']").click()
        found.wait_for_timeout(400)
        below = found.locator("header").evaluate("each => each.getBoundingClientRect().bottom")
        top = found.locator(f"#{name}").evaluate("each => each.getBoundingClientRect().top")
        assert below - 8 <= top <= below + 40, name
        found.context.close()


def test_choosing_a_method_stays_at_the_place(path, opened):
    found = opened(path, height=700)
    everything_drawn(found)
    found.locator("#images").evaluate("each => each.scrollIntoView({behavior: 'instant'})")
    before = found.locator("#images").evaluate("each => each.getBoundingClientRect().top")
    height = found.locator("#classes").evaluate("each => each.offsetHeight")
    found.locator("#method").select_option(index=1)
    assert abs(found.locator("#classes").evaluate("each => each.offsetHeight") - height) > 20
    after = found.locator("#images").evaluate("each => each.getBoundingClientRect().top")
    assert abs(after - before) < 3


def test_a_phone_shows_figures_and_keeps_the_menu(path, opened):
    found = opened(path, width=390, height=800)
    cell = found.locator("#methods tbody td").first.bounding_box()
    assert cell["x"] + cell["width"] < 390
    assert "±" in found.locator("#methods tbody td").first.inner_text() or "(" in (
        found.locator("#methods tbody td").first.inner_text()
    )
    found.locator("#images").evaluate("each => each.scrollIntoView({behavior: 'instant'})")
    assert abs(found.locator("nav").bounding_box()["y"]) < 1
    assert found.locator("#largest").evaluate("each => each.open")
    assert not found.locator("#whole").is_visible()
    wide = found.locator("article.card .scroll").evaluate_all(
        "all => all.map(each => each.scrollWidth - each.clientWidth)"
    )
    assert max(wide) <= 1


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
