"""Links of the pages to files that are not pages of the site: their names stay, as text."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with `[text](../file)` as its text alone; images and other pages are left as they are."""
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
