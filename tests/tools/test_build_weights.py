"""The tool that writes what the weights of bundled models take."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from estimator.sources.catalogue import QUANTIZATIONS, entries
from estimator.stored_weights import WEIGHTS
from tools import build_weights

if TYPE_CHECKING:
    from pathlib import Path

BUNDLED = json.loads(WEIGHTS.read_text(encoding="utf-8"))


def test_every_bundled_model_is_there() -> None:
    assert list(BUNDLED) == [entry.id for entry in entries()]
    for record in BUNDLED.values():
        assert set(record["at"]) <= set(QUANTIZATIONS)
        assert "BF16" in record["at"]


@pytest.mark.parametrize("id", ["llama-3.1-8b-instruct", "gpt-oss-20b", "gemma-3-1b-it", "qwen3-coder-next"])
def test_the_figures_are_what_the_tool_would_write(id: str) -> None:
    assert json.loads(json.dumps(build_weights.record(id))) == BUNDLED[id]


def test_it_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_weights, "WEIGHTS", tmp_path / "weights.json")
    monkeypatch.setattr(build_weights, "entries", lambda: entries()[:1])
    monkeypatch.setattr(sys, "argv", ["build_weights"])
    assert build_weights.main() == 0
    monkeypatch.setattr(sys, "argv", ["build_weights", "--check"])
    assert build_weights.main() == 0
    (tmp_path / "weights.json").write_text("{}")
    assert build_weights.main() == 1
