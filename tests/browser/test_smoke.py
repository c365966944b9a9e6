"""The page in a real browser, once; the rest is in `make test-page`."""

from pages import CLASSES, NAMES, page, results


def test_the_page_opens_and_a_cell_shows_its_images(tmp_path, opened):
    found = opened(page(tmp_path))
    assert found.evaluate("window.hacked") is None
    assert found.locator("h1").inner_text() == "birds <&> 鳥"
    # The pair that validation images chose comes first, with its counts.
    counts = sum(result.test_counts for result in results() if result.method == "baseline")
    card = found.locator("article.card").first
    assert NAMES[2] in card.locator("h3").inner_text()
    shown = card.locator("tbody tr").first.locator("button").first.inner_text()
    assert shown.startswith(f"{counts[2, 3]} of {counts[2].sum() // 2} × 2 ")
    card.locator("tbody tr").first.locator("button").first.click()
    names = found.locator("#list-body img").evaluate_all("all => all.map(each => each.alt)")
    wrong = {
        name
        for result in results()
        if result.method == "baseline"
        for name, label, top in zip(result.test.names, result.test.labels, result.test.top_classes)
        if (label, top[0]) == (2, 3)
    }
    assert sorted(names) == sorted(f"{CLASSES.names[2]}, {name}" for name in wrong)
    assert (
        found.locator("#list-body img").first.evaluate("each => each.decode().then(() => each.naturalWidth)")
        == 60
    )
