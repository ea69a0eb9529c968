"""Names of the Ollama library, such as ``llama3.1:8b``, as bundled models.

``data/ollama.json`` holds for each name which tag is the latest, and for each tag that is a size the bundled model, the
file type that Ollama serves it in, and the size of its file in GB as the library's page prints it (ollama.com/library;
read from 2025 to 2026). A tag may go on with the file type: ``8b-instruct-q8_0``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from estimator.errors import ModelError
from estimator.sources.quantize import FILE_TYPES
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARY: Final = Path(__file__).parents[1] / "data" / "ollama.json"

LATEST: Final = "latest"

VARIANTS: Final = frozenset({"instruct", "chat", "text", "it", "base", "code"})
"""Words of a tag that tell how a model was trained: its shape is the same."""

FILE_TYPE_WORDS: Final = {name.lower(): name for name in FILE_TYPES} | {"fp16": "F16"}


class Served(NamedTuple):
    """What a name stands for: a bundled model, its file type, and the published size of the file in GB if known."""

    id: str
    file_type: str
    published_gb: float | None

    def differs_from(self, n_bytes: int) -> bool:
        """Whether the published size tells that Ollama serves something else than a file of so many bytes.

        As far as two digits tell, or three of less than 1 GB, and 2 % for a tokenizer.
        """
        if self.published_gb is None:
            return False
        digit = 0.001 if self.published_gb < 1 else 0.1 if self.published_gb < 10 else 1
        return abs(self.published_gb - n_bytes / 1e9) > max(digit / 2, 0.02 * self.published_gb)


def is_library_name(text: str) -> bool:
    """Whether a text is meant as a name of the library: it has a tag, or is one of its names."""
    name, colon, _ = text.lower().partition(":")
    return name in _library() or (bool(colon) and "/" not in name)


def served(text: str) -> Served:
    """What ``name`` or ``name:tag`` stands for.

    Raises:
        ModelError: ``unknown-model``: the name, or its tag, is not one of those at hand.
    """
    name, _, tag = text.strip().lower().partition(":")
    entry = _library().get(name)
    if entry is None:
        message = f"model is {text[:100]!r}, which is not among the names of Ollama's library at hand"
        raise _unknown(message, nearest(name, _library()))
    tags: Mapping[str, Any] = entry["tags"]
    size, *words = (entry[LATEST] or LATEST if tag in ("", LATEST) else tag).split("-")
    file_type = FILE_TYPE_WORDS.get(words.pop()) if words and words[-1] in FILE_TYPE_WORDS else None
    if size not in tags or not VARIANTS.issuperset(words):
        message = f"model is {text[:100]!r}, but of {name} no tag {(tag or LATEST)[:100]!r} is at hand"
        raise _unknown(message, tuple(f"{name}:{tag}" for tag in tags))
    id, served_type, published_gb = tags[size]
    return Served(id, file_type or served_type, published_gb if file_type in (None, served_type) else None)


def _unknown(message: str, allowed: tuple[str, ...]) -> ModelError:
    hint = f"; there is {', '.join(allowed)}" if allowed else ""
    return ModelError("unknown-model", message + hint, field="model", allowed=allowed or None)


@cache
def _library() -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(LIBRARY.read_text(encoding="utf-8"))
    return found
