"""The bundled models: facts of their GGUF headers in full precision, from which every quantization follows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from estimator.errors import ModelError
from estimator.sources.compact import unpack
from estimator.sources.from_gguf import model_from_header
from estimator.sources.quantize import quantize
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.model import Model
    from estimator.sources.gguf import GGUFHeader

CATALOGUE: Final = Path(__file__).parents[1] / "data" / "models.json"

QUANTIZATIONS: Final = (
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_0",
    "MXFP4_MOE",
    "IQ4_XS",
    "Q3_K_M",
    "Q2_K",
    "IQ2_XXS",
)
"""What is offered first for every bundled model: the levels whose sizes are checked against llama-quantize's for each.
``estimator.sources.quantize.FILE_TYPES`` has all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A bundled model as a picker shows it. ``repo`` is where it lives on the Hub, None where that is not known."""

    id: str
    name: str
    family: str
    repo: str | None
    parameters: int
    context_length: int


@cache
def entries() -> tuple[Entry, ...]:
    """All bundled models, as a picker shows them: by family, current ones first."""
    return tuple(
        Entry(
            id=record["id"],
            name=record["name"],
            family=record["family"],
            repo=record["repo"],
            parameters=record["parameters"],
            context_length=record["context_length"],
        )
        for record in _records().values()
    )


@lru_cache(maxsize=256)
def catalogue_model(id: str, quantization: str) -> Model:
    """A bundled model at one of its quantizations, as ``llama-quantize`` would write it without an importance matrix.

    Raises:
        ModelError: ``unknown-model`` names the nearest ids; ``unknown-file-type`` the quantizations.
    """
    return quantize(full_precision(id), quantization)


@cache
def _records() -> Mapping[str, dict[str, Any]]:
    return {record["id"]: record for record in json.loads(CATALOGUE.read_text(encoding="utf-8"))}


@cache
def full_precision(id: str) -> Model:
    """A bundled model as a converter writes it, the same object every time.

    Raises:
        ModelError: ``unknown-model`` names the nearest ids.
    """
    return model_from_header(catalogue_header(id))


def catalogue_header(id: str) -> GGUFHeader:
    """The header of a bundled model in full precision, less what no byte depends on.

    Raises:
        ModelError: ``unknown-model``, as ``full_precision``.
    """
    record = _records().get(id)
    if record is None:
        near = nearest(id, _records())
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ModelError(
            "unknown-model", f"model is {id[:100]!r}, which is not bundled{hint}", field="model", allowed=near or None
        )
    return unpack(record)
