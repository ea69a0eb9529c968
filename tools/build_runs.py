"""Writes the default run of each bundled model as straight lines over the context, on one device and on two equal ones.

    python -m tools.build_runs [--check]

All follows from the catalogue and the memory model; ``tools.build_buffers`` writes the compute buffers. ``--check``
writes nothing and fails if the file would change.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from estimator.memory.cache import cache_sides
from estimator.memory.context import STEP, resolve
from estimator.memory.linear import Linear, Span
from estimator.memory.placement import places
from estimator.memory.scratch import F32_BYTES
from estimator.memory.state import state_elements
from estimator.settings import Settings
from estimator.sources.catalogue import entries, full_precision
from estimator.speed import active_parameters, cache_read, decodes
from estimator.stored_buffers import COUNTS, digest
from estimator.stored_runs import FIRST, LAST, RUNS, CachePiece
from tools.written import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from estimator.memory.context import Context
    from estimator.model import Model

MOST_LINES: Final = 400
"""Lines of caches before they are given up."""

Number = int | Linear


def record(id: str) -> dict[str, Any]:
    """What is written of a model (see ``estimator.stored_runs.StoredRun``)."""
    model = full_precision(id)
    reads = Counter(cache_read(model, layer) for layer in model.layers)
    return {
        "graph": digest(model),
        "n_layer": model.n_layer,
        "active": active_parameters(model),
        "has_experts": any(layer.n_expert for layer in model.layers),
        "decodes": decodes(model),
        "needs_equal": not all(layer.has_v for layer in model.kinds),
        "reads": [[count, *read] for read, count in reads.items()],
        "sets": {str(count): _on_equal_devices(model, count) for count in COUNTS},
    }


def _on_equal_devices(model: Model, count: int) -> dict[str, Any]:
    """The run on so many equal devices (see ``estimator.stored_runs.StoredSet``)."""
    where = places(model, Settings(), [1] * count)
    held = [where.held.get(index, ()) for index in range(count)]
    states = [sum(state_elements(model.layers[il]) for il in layers) * F32_BYTES for layers in held]
    return {
        "counts": where.counts(count),
        "shares": [model.share_rope_factors(layers) for layers in held],
        "states": states,
        "caches": [_caches(model, layers) for layers in held],
    }


def _caches(model: Model, layers: Sequence[int]) -> list[CachePiece]:
    """Elements of the caches of some layers; none where they grow in too many stairs."""
    counts = Counter(model.layer_kinds[il] for il in layers)

    def elements(span: Span) -> tuple[Number, ...]:
        context = _over(resolve(model, Settings(n_ctx=span.at * STEP)), span)
        sums: list[Number] = [0, 0]
        for side in cache_sides(model, context, counts):
            is_v = side.name in ("V", "Indexer V")
            sums[is_v] += side.n_layer * side.n_stream * side.width * side.cells
        return tuple(sums)

    try:
        return [CachePiece(low, *k, *v) for low, (k, v) in _lines(elements)]
    except OverflowError:
        return []


def _over(context: Context, span: Span) -> Context:
    """The context as a number that grows."""
    n_ctx = cast("int", Linear(STEP, 0, span))
    return replace(context, n_ctx=n_ctx, n_ctx_seq=n_ctx)


def _lines(numbers: Callable[[Span], tuple[Number, ...]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(from how many steps on, slope and rest of each number), for all contexts.

    Raises:
        OverflowError: there are too many.
    """
    steps, last = FIRST, None
    for _ in range(MOST_LINES):
        span = Span(steps)
        found = [_line(number) for number in numbers(span)]
        if found != last:
            yield steps, found
        steps, last = span.high + 1, found
        if steps > LAST:
            return
    raise OverflowError


def _line(number: Number) -> tuple[int, int]:
    return (number.slope, number.rest) if isinstance(number, Linear) else (0, number)


def render() -> str:
    """The file's text: one model a line."""
    ids = [entry.id for entry in entries()]
    with ProcessPoolExecutor() as pool:
        lines = list(pool.map(_line_of, ids, chunksize=4))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line_of(id: str) -> str:
    return f"{json.dumps(id)}:{json.dumps(record(id), separators=(',', ':'))}"


def main() -> int:
    """Write or check the file; 1 if the check fails."""
    return run(__doc__, RUNS, render)


if __name__ == "__main__":
    sys.exit(main())
