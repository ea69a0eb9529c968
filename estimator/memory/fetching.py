"""Weights of the host that a device fetches to compute with them (ggml-backend.cpp:1110-1120, llama.cpp b11434)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.model import Model

FETCHING: Final = 0
"""The device that computes with weights of the host's: the first."""

FETCH_ROWS: Final = 32
"""``GGML_OP_OFFLOAD_MIN_BATCH``: from so many rows on."""


@lru_cache(maxsize=256)
def _largest_weights(model: Model) -> Mapping[str, int]:
    """Bytes of the largest weight of each name."""
    largest: dict[str, int] = {}
    for tensor in model.tensors:
        part, _, rest = tensor.name.removesuffix(".weight").partition(".")
        name = rest.partition(".")[2] if part == "blk" else part
        largest[name] = max(largest.get(name, 0), tensor.n_bytes)
    return largest


def fetched_bytes(model: Model, weight: str) -> int:
    """Bytes of a weight that a device fetches: of the layer that has the largest, for its copy outlives no other."""
    largest = _largest_weights(model)
    return largest.get("token_embd" if weight == "output" and model.has_tied_output else weight, 0)
