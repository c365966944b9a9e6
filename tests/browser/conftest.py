"""Debian's Chromium, driven by playwright; tests are skipped, with a word, where either is missing."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = next(
    (
        path
        for path in ("/usr/bin/chromium", shutil.which("chromium-browser"))
        if path and Path(path).exists()
    ),
    None,
)


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no browser here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Opens a file as a page of some size and scheme; what the console says of errors fails the test."""
    said, contexts = [], []

    def open_page(path, *, width=1280, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda message: said.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda request: said.append(request.url) if request.url.startswith("http") else None
        )
        page.goto(Path(path).absolute().as_uri())
        page.locator("html[data-ready=yes]").wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said
