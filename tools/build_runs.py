"""Writes the default run of each bundled model as straight lines over the context, on one device and on two equal ones.

    python -m tools.build_runs [--check]

All follows from the catalogue and the memory model. It takes some minutes on all processors. A model, or a class of
cache types, whose lines cannot be kept is left out: ``estimator.survey`` lays it out when it is asked for. ``--check``
writes nothing and fails if the file would change.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast

from estimator.backends import BACKENDS
from estimator.errors import SettingsError
from estimator.memory.cache import cache_sides
from estimator.memory.context import STEP, resolve
from estimator.memory.graph import buffers
from estimator.memory.linear import Linear, Span
from estimator.memory.pieces import compute_buffers
from estimator.memory.placement import places
from estimator.memory.scratch import F32_BYTES
from estimator.memory.state import state_elements
from estimator.memory.target import target
from estimator.settings import Settings
from estimator.sources.catalogue import entries, full_precision
from estimator.speed import active_parameters, cache_read, decodes
from estimator.stored_runs import CLASSES, COUNTS, FIRST, LAST, QUANTIZED, RUNS, CachePiece, Piece, class_of
from tools.written import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from estimator.backends import BackendName
    from estimator.memory.context import Context
    from estimator.memory.placement import Places
    from estimator.memory.target import Target
    from estimator.model import Model
    from estimator.stored_runs import Class

MOST_LINES: Final = 400
"""Graphs that are laid out for one class before a model is given up."""

ALIKE: Final = (4096, 32768, 1 << 20)
"""Contexts in tokens at which all pairs of a class are compared."""

Number = int | Linear


def record(id: str) -> dict[str, Any]:
    """What is written of a model (see ``estimator.stored_runs.StoredRun``)."""
    model = full_precision(id)
    reads = Counter(cache_read(model, layer) for layer in model.layers)
    return {
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
    devices = [*(place.device for place in where.layers), *where.nextn, where.output.device]
    caches = [_caches(model, layers) for layers in held]
    states = [sum(state_elements(model.layers[il]) for il in layers) * F32_BYTES for layers in held]
    return {
        "counts": [devices.count(index) for index in range(count)],
        "shares": [model.share_rope_factors(layers) for layers in held],
        "states": states,
        "caches": caches,
        "compute": {
            backend: {name: pieces for name in classes if (pieces := _compute(model, backend, name, where, count))}
            for backend, classes in CLASSES.items()
            if all(caches) and (count == 1 or _is_wanted_of_several(model, backend))
        },
    }


def _is_wanted_of_several(model: Model, backend: BackendName) -> bool:
    """Whether it is kept of several devices: not of Macs, nor of models that need far more."""
    return backend == "cuda" and not model.has_leaves


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


def _compute(model: Model, backend: BackendName, name: Class, where: Places, count: int) -> list[list[Piece]]:
    """The compute buffer of each device; none where types of the class differ or are refused, or lines are too many."""
    targets = (target(BACKENDS[backend]),) * count
    try:
        if not _are_alike(model, backend, name, where, targets):
            return []

        def totals(span: Span) -> tuple[Number, ...]:
            context = _over(_resolved(model, CLASSES[backend][name], span.at * STEP), span)
            return tuple(size.total for size in buffers(model, context, targets, where)[:-1])

        lines = list(_lines(totals))
    except (SettingsError, OverflowError):
        return []
    return [_of_device(lines, index) for index in range(count)]


def _of_device(lines: Sequence[tuple[int, list[tuple[int, int]]]], index: int) -> list[Piece]:
    """The lines of one device, without bends that are another's."""
    pieces = [Piece(low, *found[index]) for low, found in lines]
    return [pieces[0], *(piece for before, piece in pairwise(pieces) if piece[1:] != before[1:])]


def _are_alike(model: Model, backend: BackendName, name: Class, where: Places, targets: tuple[Target, ...]) -> bool:
    """Whether all pairs of the class have the same buffers at some contexts."""
    sides = ("f16", *QUANTIZED)
    pairs = [(k, v) for k in sides for v in sides if class_of(backend, (k, v)) == name]
    pairs = [pair for pair in pairs if pair[0] == pair[1] or all(layer.has_v for layer in model.kinds)]
    for n_ctx in ALIKE:
        contexts = {_resolved(model, pair, n_ctx) for pair in pairs}
        if len({_totals(model, context, targets, where) for context in contexts}) > 1:
            return False
    return bool(pairs)


def _totals(model: Model, context: Context, targets: tuple[Target, ...], where: Places) -> tuple[int, ...]:
    return tuple(size.total for size in compute_buffers(model, context, targets, where).devices)


def _resolved(model: Model, pair: tuple[str, str], n_ctx: int) -> Context:
    return resolve(model, Settings(n_ctx=n_ctx, cache_type_k=pair[0], cache_type_v=pair[1]))


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
