"""The estimator is pure: it imports neither the application nor anything of the network, and nothing in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "estimator").rglob("*.py"))
IMPURE = {
    *("app", "tests", "tools", "flask", "gunicorn", "requests", "httpx", "urllib", "http", "socket", "ssl", "asyncio"),
    *("subprocess", "time", "datetime", "random", "threading"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(node: ast.AST) -> Iterator[str]:
    """Names of all that is imported at run time, in functions too: modules, and what may be one."""
    for child in ast.iter_child_nodes(node):
        if is_for_types_only(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "a relative import"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imported(child)


def imports_of(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8"))))


def known_module(name: str) -> str | None:
    """The module of the estimator that a name of an import stands for."""
    return next((module for module in (name, name.rpartition(".")[0]) if module in MODULES), None)


def test_there_are_files_to_look_at() -> None:
    assert len(MODULES) > 20
    cache = imports_of(MODULES["estimator.memory.cache"])
    assert "estimator.ggml.row_bytes" in cache
    assert "estimator.model.Model" not in cache  # for types only


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_impure(module: str) -> None:
    assert {name.partition(".")[0] for name in imports_of(MODULES[module])} & IMPURE == set()


def test_imports_have_an_order() -> None:
    graph = {
        module: {found for name in imports_of(path) if (found := known_module(name))}
        for module, path in MODULES.items()
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("estimator.errors") < order.index("estimator.settings") < order.index("estimator.estimate")
    assert order.index("estimator.estimate") < order.index("estimator.fit") < order.index("estimator")


def test_the_library_loads_without_the_application() -> None:
    script = "import sys, estimator; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"flask", "werkzeug", "jinja2", "app", "tests"} & set(loaded.stdout.split()) == set()
