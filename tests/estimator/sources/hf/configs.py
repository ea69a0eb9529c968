"""Configs of real models, with the parameters that transformers builds for each."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.sources.catalogue import CATALOGUE
from estimator.sources.compact import unpack
from estimator.sources.from_gguf import model_from_header

if TYPE_CHECKING:
    from estimator.model import Model

FILE: Final = Path(__file__).parents[3] / "data" / "hf" / "configs.json.gz"


@cache
def _records() -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = json.loads(gzip.decompress(FILE.read_bytes()))
    return records


def ids() -> tuple[str, ...]:
    """The models, by the ids of the bundled ones."""
    return tuple(_records())


def config(id: str) -> dict[str, Any]:
    """A copy of a model's config, to change at will."""
    copy: dict[str, Any] = json.loads(json.dumps(_records()[id]["config"]))
    return copy


@cache
def converted(id: str) -> Model:
    """The model of the header that llama.cpp's converter writes for a config."""
    records = {record["id"]: record for record in json.loads(CATALOGUE.read_text(encoding="utf-8"))}
    return model_from_header(unpack(records[id]))


def parameters(id: str) -> int | None:
    """Parameters of the checkpoint, None where nobody counted."""
    n: int | None = _records()[id]["parameters"]
    return n


LLAMA: Final = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 1024,
}
"""A small model of the commonest architecture."""


@cache
def _stored() -> dict[str, list[tuple[str, list[int], int | list[int], int]]]:
    rows: dict[str, list[tuple[str, list[int], int | list[int], int]]]
    rows = json.loads(gzip.decompress(FILE.with_name("tensors.json.gz").read_bytes()))
    return rows


def stored_ids() -> tuple[str, ...]:
    """The models whose tensors are known: one of each architecture."""
    return tuple(_stored())


def stored(id: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of a checkpoint in BF16, by the names that it has on the Hub."""
    tensors = {}
    for pattern, shape, layers, n_expert in _stored()[id]:
        numbers = range(layers) if isinstance(layers, int) else layers
        for name in [pattern.replace("*", str(il), 1) for il in numbers] if "*" in pattern else [pattern]:
            for expert in range(n_expert or 1):
                tensors[name.replace("#", str(expert), 1)] = ("BF16", tuple(shape))
    return tensors


@cache
def _more() -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = json.loads(gzip.decompress(FILE.with_name("more.json.gz").read_bytes()))
    return records


def more_counted() -> tuple[str, ...]:
    """Repositories whose parameters are published, or counted by transformers."""
    return tuple(repo for repo, record in _more().items() if "parameters" in record)


def more_converted() -> tuple[str, ...]:
    """Repositories whose config llama.cpp's converter made a header of."""
    return tuple(repo for repo, record in _more().items() if "header" in record)


def more(repo: str) -> dict[str, Any]:
    """The ``config`` of a repository, with its ``parameters`` and ``header`` where they are known."""
    return _more()[repo]
