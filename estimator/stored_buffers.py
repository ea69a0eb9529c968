"""Compute buffers of llama-server's default run of the bundled models, as straight lines: read, not worked out.

On one device and on two equal ones. ``data/buffers.json`` is made from the memory model itself
(``tools/build_buffers.py``), for each class of cache types that they are alike for. A graph does not depend on how the
weights are quantized, and models of other weights may have the same one: it goes by the digest of all that it follows
from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from estimator.backends import BACKENDS
from estimator.errors import SettingsError
from estimator.ggml import cache_type, is_quantized
from estimator.kernels import kernel
from estimator.memory.context import resolve
from estimator.memory.free_list import Buffers, BufferSize
from estimator.memory.placement import places as places_of
from estimator.memory.target import target
from estimator.settings import Settings
from estimator.straight import Lines, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from estimator.backends import BackendName
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.memory.target import Target
    from estimator.model import Model

BUFFERS: Final = Path(__file__).parent / "data" / "buffers.json"

BATCH: Final = Settings().n_ubatch
"""Tokens of context from which on a batch is as large as it gets; what is shorter is not here."""

COUNTS: Final = (1, 2)
"""Equal devices."""

Class = Literal["f16", "f16:quantized", "quantized"]
"""Types of K and V that a compute buffer is alike for, where the backend has a kernel for them."""

CLASSES: Final[Mapping[BackendName, Mapping[Class, tuple[str, str]]]] = {
    "generic": {"f16": ("f16", "f16"), "f16:quantized": ("f16", "q8_0"), "quantized": ("q8_0", "q8_0")},
    "cuda": {"f16": ("f16", "f16"), "f16:quantized": ("f16", "q8_0"), "quantized": ("q8_0", "q8_0")},
    "metal": {"f16": ("f16", "f16"), "quantized": ("q8_0", "q8_0")},
}
"""What is kept, with a pair of types that stands for the class. ROCm is as CUDA."""

NO_PART: Final = frozenset({"name", "file_type", "checkpoint", "context_length", "layers", "tensors"})
"""Fields of a model that its graph does not follow from, and those of which it takes only a part."""


@dataclass(frozen=True, slots=True)
class StoredBuffers:
    """The buffers of one run.

    Args:
        step: tokens of one step of the context.
        last: the step up to which they are known.
        devices: the bytes of each device's buffer, and those in use at the fullest moment.
        host: the same of the host's, of which all that is asked for is how large it is.
    """

    step: int
    last: int
    devices: tuple[tuple[Lines, Lines], ...]
    host: tuple[Lines, Lines]

    def at(self, steps: int) -> Buffers | None:
        """The buffers at so many steps; None where they are not known."""
        if not BATCH <= steps * self.step <= self.last * self.step:
            return None
        devices = [BufferSize(total.at(steps), live.at(steps)) for total, live in self.devices]
        return Buffers(devices, BufferSize(*(lines.at(steps) for lines in self.host)))


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """What is known of a graph on some equal devices, by backend and class of types."""

    buffers: Mapping[str, Mapping[str, StoredBuffers]]

    def of(self, backend: BackendName, pair: tuple[str, str]) -> StoredBuffers | None:
        """The buffers on such devices with such types of K and V; None where they are not kept."""
        family: BackendName = "cuda" if backend == "rocm" else backend
        name = class_of(family, pair)
        return self.buffers.get(family, {}).get(name) if name else None


def stored_buffers(model: Model, context: Context, targets: Sequence[Target], places: Places) -> StoredBuffers | None:
    """The buffers of a run; None where they are not kept.

    Args:
        context: that of one step.
    """
    count = len(targets)
    backend = _backend(targets)
    if backend is None or count not in COUNTS or not (places.is_whole and _is_default(model, context)):
        return None
    if count > 1 and not _are_equal_shares(model, places, count):
        return None
    graph = stored_graph(digest(model), count)
    found = graph and graph.of(backend, (context.type_k.name.lower(), context.type_v.name.lower()))
    return found if found and found.step == context.n_ctx_seq else None


def _are_equal_shares(model: Model, places: Places, count: int) -> bool:
    """Whether layers lie where equal devices have them: how much is free does not matter."""
    equal = places_of(model, Settings(), [1] * count)
    return equal.counts(count) == places.counts(count) and equal.is_pipelined == places.is_pipelined


def class_of(backend: BackendName, pair: tuple[str, str]) -> Class | None:
    """The class of a pair; None where buffers of such pairs are not kept."""
    if backend not in CLASSES:
        return None
    type_k, type_v = map(cache_type, pair)
    if pair == ("f16", "f16"):
        return "f16"
    if not is_quantized(type_v) or kernel(backend, type_k, type_v).speed == "cpu":
        return None
    if is_quantized(type_k):
        return "quantized"
    return "f16:quantized" if pair[0] == "f16" else None


@lru_cache(maxsize=512)
def digest(model: Model) -> str:
    """What tells graphs apart, the same in every process: no part of a model is a set, whose order is not."""
    facts = [getattr(model, field.name) for field in fields(model) if field.name not in NO_PART]
    names = sorted([tensor.name for tensor in model.tensors if "blk." not in tensor.name])  # of blocks layers tell
    whole = facts, model.kinds, model.layer_kinds, model.n_embd_out, names
    return sha256(repr(whole).encode()).hexdigest()[:16]


def _backend(targets: Sequence[Target]) -> BackendName | None:
    """The backend of equal devices whose buffers are kept, if these are such."""
    if len(set(targets)) > 1:
        return None
    return next((name for name in CLASSES if target(BACKENDS[name]) == targets[0]), None)


def _is_default(model: Model, context: Context) -> bool:
    """Whether all but length and types is what llama-server's defaults come to."""
    try:
        default = resolve(model, Settings(n_ctx=BATCH))
    except SettingsError:
        return False
    given = {name: getattr(context, name) for name in ("n_ctx", "n_ctx_seq", "type_k", "type_v")}
    return context == replace(default, **given)


@cache
def stored_graph(of: str, count: int) -> StoredGraph | None:
    """What is known of the graph of a digest on so many equal devices."""
    record = _records().get(of)
    found = record and record["sets"].get(str(count))
    if not (record and found):
        return None
    lines = [Lines([Piece(*piece) for piece in pieces]) for pieces in record["lines"]]
    buffers = {
        backend: {
            name: StoredBuffers(record["step"], record["last"], tuple(devices), host)
            for name, numbers in classes.items()
            for *devices, host in [_in_pairs(lines[number] for number in numbers)]
        }
        for backend, classes in found.items()
    }
    return StoredGraph(buffers)


def _in_pairs(lines: Iterator[Lines]) -> list[tuple[Lines, Lines]]:
    return list(zip(lines, lines, strict=True))


@cache
def _records() -> Mapping[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = json.loads(BUFFERS.read_text(encoding="utf-8"))
    return records
