"""The tool that writes the default run of bundled models as straight lines."""

from __future__ import annotations

import json

import pytest

from estimator.sources.catalogue import entries
from estimator.stored_runs import RUNS
from tools import build_runs

BUNDLED = json.loads(RUNS.read_text(encoding="utf-8"))


def test_every_bundled_model_is_there() -> None:
    assert list(BUNDLED) == [entry.id for entry in entries()]


@pytest.mark.parametrize("id", ["llama-3.2-1b-instruct", "gemma-3-1b-it", "gpt-oss-20b", "bge-m3", "phi-2"])
def test_the_lines_are_what_the_tool_would_write(id: str) -> None:
    assert json.loads(json.dumps(build_runs.record(id))) == BUNDLED[id]


def test_hardly_any_model_has_to_be_laid_out() -> None:
    kept = [record for record in BUNDLED.values() if all(record["sets"]["1"]["caches"])]
    assert len(kept) > 0.98 * len(BUNDLED)
