"""What engines' own sources name: options of commands, parameters of functions (``tests/data/engines``)."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path
from typing import cast

DATA = Path(__file__).parents[2] / "data" / "engines"


def listed(engine: str, kind: str, name: str) -> frozenset[str]:
    """``options`` of a command, or ``parameters`` of a function, of the version that the file names."""
    found = json.loads((DATA / f"{engine}.json").read_text())
    return frozenset(cast("list[str]", found[f"{kind}s"][name]["options" if kind == "command" else "parameters"]))


def version(engine: str) -> str:
    """The version whose sources were read."""
    return cast("str", json.loads((DATA / f"{engine}.json").read_text())["version"])


def options(command: str) -> frozenset[str]:
    """The options of a command line."""
    return frozenset(word for word in shlex.split(command) if word.startswith("-"))


def value(command: str, option: str) -> str:
    """What follows an option."""
    words = shlex.split(command)
    return words[words.index(option) + 1]


def keywords(snippet: str, function: str) -> dict[str, str]:
    """Keywords of every call of a function or method of this name, and what they are given."""
    calls = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == function]
    return {word.arg: ast.unparse(word.value) for call in named for word in call.keywords if word.arg}
