"""llama-server's default run of the bundled models, as straight lines over the context: read, not worked out.

On one device and on two equal ones. ``data/runs.json`` is made from the memory model itself (``tools/build_runs.py``):
laying out the graphs of all bundled models takes seconds, reading them milliseconds. It holds the caches by elements of
K and of V, so that any types can be put in; ``stored_buffers`` has the compute buffers. Contexts are in steps of 256
tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from estimator.ggml import cache_type, row_bytes
from estimator.memory.context import STEP
from estimator.memory.placement import Place, Places
from estimator.settings import MAX_N_CTX, Settings
from estimator.speed import CacheRead
from estimator.stored_buffers import BATCH, COUNTS, stored_graph
from estimator.straight import Lines, Piece

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimator.backends import BackendName
    from estimator.stored_buffers import StoredGraph

RUNS: Final = Path(__file__).parent / "data" / "runs.json"

FIRST: Final = BATCH // STEP
"""Steps from which on a batch is as large as it gets; what is shorter is not here."""

LAST: Final = MAX_N_CTX // STEP

Pair = tuple[str, str]
"""Types of K and V."""


class CachePiece(NamedTuple):
    """Elements of K and of V in the caches, each ``slope * steps + rest``, from ``low`` steps on."""

    low: int
    k_slope: int
    k_rest: int
    v_slope: int
    v_rest: int


@dataclass(frozen=True)
class StoredSet:
    """What is known of a run on some equal devices; each list has an item for each.

    Args:
        counts: layers on each, those that predict further tokens and the output layer among them.
        shares: whether one holds the RoPE factors that layers share.
        states: bytes of recurrent state of one sequence.
        caches: elements over steps; none where they grow in too many stairs.
        graph: the compute buffers, None where none are kept.
    """

    counts: tuple[int, ...]
    shares: tuple[bool, ...]
    states: tuple[int, ...]
    caches: tuple[tuple[CachePiece, ...], ...]
    graph: StoredGraph | None

    @cached_property
    def _lines(self) -> dict[tuple[str, Pair], tuple[Lines, ...]]:
        return {}

    def lines(self, backend: BackendName, pair: Pair) -> tuple[Lines, ...] | None:
        """The lines of each device for a pair of types; None where they are not kept."""
        found = self._lines.get((backend, pair))
        if found is None:
            buffers = self.graph.of(backend, pair) if self.graph else None
            if buffers is None or not all(self.caches):
                return None
            parts = zip(buffers.devices, self.caches, self.states, strict=True)
            found = tuple(Lines(_sums(total.pieces, cached, state, pair)) for (total, _), cached, state in parts)
            self._lines[backend, pair] = found
        return found


def _sums(compute: Sequence[Piece], cached: Sequence[CachePiece], state: int, pair: Pair) -> list[Piece]:
    """Caches, states and compute buffer of one device together."""
    k, v = (row_bytes(cache_type(name), 256) for name in pair)
    fixed = state * Settings().n_seq_max
    buffers = {piece.low: piece for piece in compute}
    caches = {piece.low: piece for piece in cached}
    buffer, cache = compute[0], cached[0]
    sums = []
    for low in sorted({*buffers, *caches}):
        buffer, cache = buffers.get(low, buffer), caches.get(low, cache)
        slope = buffer.slope + (cache.k_slope * k + cache.v_slope * v) // 256
        sums.append(Piece(low, slope, buffer.rest + (cache.k_rest * k + cache.v_rest * v) // 256 + fixed))
    return sums


@dataclass(frozen=True)
class StoredRun:
    """What is known of a bundled model and its default run.

    Args:
        n_layer: layers of the trunk.
        active: parameters that one token needs, all of them in a dense model.
        has_experts: of some layers one token needs only a part.
        decodes: it writes text token by token; otherwise it embeds.
        needs_equal: K and V have one cache, and so one type.
        reads: (layers, what one token reads of each).
        sets: the run on so many equal devices.
    """

    n_layer: int
    active: int
    has_experts: bool
    decodes: bool
    needs_equal: bool
    reads: tuple[tuple[int, CacheRead], ...]
    sets: Mapping[int, StoredSet]

    def places(self, count: int) -> Places:
        """Where everything lies on so many equal devices."""
        return _places(self.sets[count].counts, self.n_layer)

    def lines(self, count: int, backend: BackendName, pair: Pair) -> tuple[Lines, ...] | None:
        """The lines of each of so many equal devices; None where they are not kept."""
        if count not in self.sets or (self.needs_equal and pair[0] != pair[1]):
            return None
        return self.sets[count].lines(backend, pair)

    def cache_read(self, pair: Pair, n_past: int) -> int:
        """Bytes of caches and states that one token reads with so many tokens in the cache."""
        types = (cache_type(pair[0]), cache_type(pair[1]))
        return sum(count * read.size(types, n_past) for count, read in self.reads)


@lru_cache(maxsize=1024)
def _places(counts: tuple[int, ...], n_layer: int) -> Places:
    """Layers in a row on each device: the trunk, what predicts further tokens, the output layer."""
    devices = [index for index, n in enumerate(counts) for _ in range(n)]
    layers = tuple(map(Place, devices[:n_layer]))
    nextn = tuple(devices[n_layer:-1])
    return Places(layers, Place(devices[-1]), nextn, is_full=True, is_pipelined=len(counts) > 1)


def is_kept(settings: Settings) -> bool:
    """Whether settings are those of the runs that are kept, but for context and types of the cache."""
    return replace(settings, n_ctx=0, cache_type_k="f16", cache_type_v="f16") == Settings()


@cache
def stored_run(id: str) -> StoredRun:
    """The run of a bundled model."""
    record = _records()[id]
    reads = tuple((count, CacheRead(*read)) for count, *read in record["reads"])
    sets = {count: _stored_set(record["sets"][str(count)], stored_graph(record["graph"], count)) for count in COUNTS}
    facts = {name: value for name, value in record.items() if name != "graph"}
    return StoredRun(**{**facts, "reads": reads, "sets": sets})


def _stored_set(record: Mapping[str, Any], graph: StoredGraph | None) -> StoredSet:
    return StoredSet(
        **{name: tuple(record[name]) for name in ("counts", "shares", "states")},
        caches=tuple(tuple(CachePiece(*piece) for piece in pieces) for pieces in record["caches"]),
        graph=graph,
    )


@cache
def _records() -> Mapping[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = json.loads(RUNS.read_text(encoding="utf-8"))
    return records
