"""The tables of ``docs/published-figures.md``: ``python -m tests.published.page`` renews them and leaves the text.

``tests/test_published_figures.py`` holds the document to what the core says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.published.sources import SECTIONS

PAGE: Final = Path(__file__).parents[2] / "docs" / "published-figures.md"


def filled(text: str) -> str:
    """The document with the tables that are right now: the first thing below each title.

    Raises:
        ValueError: a section has no title there.
    """
    for section in SECTIONS:
        title = f"## {section.title}\n\n"
        before, found, after = text.partition(title)
        if not found:
            raise ValueError(f"no section {section.title!r}")
        text = before + title + section.table() + re.sub(r"\A(\|[^\n]*\n)*", "", after)
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
