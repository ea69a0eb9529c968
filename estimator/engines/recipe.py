"""What somebody types to run a model as it was estimated: commands, environments, files and snippets, safely quoted."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from estimator.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME: Final = 500
"""Characters of a name of a model that a recipe repeats."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the model comes from, as far as it is known: a recipe uses what its engine can load.

    Args:
        repo: ``org/name`` on the Hub.
        file: a GGUF file, a path or a name.
        library: a name of Ollama's library.

    Raises:
        SettingsError: a name is too long or holds what is no text (line breaks would end a command).
    """

    repo: str = ""
    file: str = ""
    library: str = ""

    def __post_init__(self) -> None:
        for name in (self.repo, self.file, self.library):
            if len(name) > MAX_NAME or not name.isprintable():
                allowed = f"at most {MAX_NAME} printable characters"
                message = f"the name of the model is {name[:40]!r}; it must be {allowed}"
                raise SettingsError("bad-name", message, field="model", allowed=allowed)

    @property
    def checkpoint(self) -> str:
        """What engines of checkpoints load; a name to be filled in where none is known."""
        return self.repo or "ORG/MODEL"

    @property
    def gguf(self) -> str:
        """What engines of GGUF files load."""
        return self.file or "model.gguf"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to run it.

    ``kind``: a ``command`` for a shell, with its environment before it where it needs one; a ``file`` to be written;
    a ``python`` snippet. ``note`` is what to know before it is used.
    """

    kind: Literal["command", "file", "python"]
    label: str
    text: str
    note: str = ""


def command(*words: object, env: Mapping[str, object] | None = None) -> str:
    """A command line, quoted for a POSIX shell; variables of ``env`` are set for it alone."""
    variables = [f"{name}={shlex.quote(str(value))}" for name, value in (env or {}).items()]
    return " ".join([*variables, shlex.join(str(word) for word in words)])
