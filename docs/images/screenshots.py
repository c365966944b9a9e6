"""Screenshots of a report's page: python docs/images/screenshots.py RUN FOLDER (make screenshots).

RUN is a workdir that has results, FOLDER where page.png, page_matrix.png and page_phone.png go. It needs
Debian's Chromium and playwright (the extra `test`). Only of images that may be shown: drawn birds, or the
Grocery Store Dataset.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from cdml_jax.cli.main import main

CHROMIUM = "/usr/bin/chromium"


def screenshots(run: str, folder: Path) -> None:
    """Write the three pictures."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = Path(place) / "report.html"
        if main(["report", run, f"--out={page}", "--quiet"]):
            raise SystemExit(2)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, width, height, scheme, section in (
            ("page", 1280, 1290, "light", "verdict"),
            ("page_matrix", 1120, 860, "light", "matrix"),
            ("page_phone", 390, 820, "dark", "images"),
        ):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
            tab.wait_for_timeout(2_000)  # drawings are made once they are seen
            tab.screenshot(path=folder / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    screenshots(sys.argv[1], Path(sys.argv[2]))
