"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

MOST: Final = 5
"""Suggestions at a time."""


def nearest(text: str, names: Collection[str]) -> tuple[str, ...]:
    """The names that hold ``text`` (``llama3`` is in ``llama-3.1-8b``), the shortest first; else those alike."""
    plain = _plain(text)
    if plain:
        holding = sorted((name for name in names if plain in _plain(name)), key=len)
        if holding:
            return tuple(holding[:MOST])
    return tuple(difflib.get_close_matches("-".join(text.lower().split()), names, n=MOST, cutoff=0.5))


def _plain(text: str) -> str:
    """Letters and digits only, lower case."""
    return re.sub(r"[^a-z0-9]", "", text[:100].lower())
