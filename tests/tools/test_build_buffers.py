"""The tool that writes the compute buffers of bundled models as straight lines."""

from __future__ import annotations

import json

import pytest

from estimator.sources.catalogue import entries, full_precision
from estimator.stored_buffers import BUFFERS, digest
from tools.build_buffers import Graph

BUNDLED = json.loads(BUFFERS.read_text(encoding="utf-8"))


def test_every_graph_of_the_catalogue_is_there() -> None:
    assert set(BUNDLED) == {digest(full_precision(entry.id)) for entry in entries()}


@pytest.mark.parametrize("id", ["llama-3.2-1b-instruct", "gemma-3-1b-it", "gpt-oss-20b", "bge-m3", "phi-2"])
def test_the_lines_are_what_the_tool_would_write(id: str) -> None:
    model = full_precision(id)
    assert json.loads(json.dumps(Graph(model).record())) == BUNDLED[digest(model)]
