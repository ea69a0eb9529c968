"""Writes the compute buffers of each bundled model's default run as straight lines over the context.

    python -m tools.build_buffers [--check]

On one device and on two equal ones, from the catalogue and the memory model. It takes some minutes on all processors.
A class of cache types whose types differ, or whose lines are too many, is left out: it is laid out when it is asked
for. ``--check`` writes nothing and fails if the file would change.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from estimator.backends import BACKENDS
from estimator.errors import SettingsError
from estimator.memory.context import STEP, resolve
from estimator.memory.graph import buffers as laid_out
from estimator.memory.linear import Linear
from estimator.memory.pieces import Run
from estimator.memory.placement import places
from estimator.memory.target import target
from estimator.settings import MAX_N_CTX, Settings
from estimator.sources.catalogue import entries, full_precision
from estimator.stored_buffers import BATCH, BUFFERS, CLASSES, COUNTS, class_of, digest
from tools.written import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.backends import BackendName
    from estimator.memory.placement import Places
    from estimator.model import Model
    from estimator.stored_buffers import Class

MOST_LINES: Final = 2048
"""Lines that are looked at for one class before it is given up."""

QUANTIZED: Final = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

ALIKE: Final = (4096, 32768, 1 << 20)
"""Contexts in tokens at which all pairs of a class are compared."""

Bend = tuple[int, tuple[tuple[int, int], ...]]
"""From how many steps on, and slope and rest of each number."""


class Graph:
    """What is written of a model: lines are kept once, whatever buffers they are of."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.step = STEP * (model.block_tokens or 1)
        self.last = (model.context_length if model.block_tokens else MAX_N_CTX) // self.step
        self._lines: dict[tuple[tuple[int, int, int], ...], int] = {}

    def record(self) -> dict[str, Any]:
        """See ``estimator.stored_buffers``."""
        sets = {str(count): self._on_equal_devices(count) for count in COUNTS}
        return {"step": self.step, "last": self.last, "lines": list(self._lines), "sets": sets}

    def _on_equal_devices(self, count: int) -> dict[str, Any]:
        where = places(self.model, Settings(), [1] * count)
        return {
            backend: {name: lines for name in classes if (lines := self._class(backend, name, where, count))}
            for backend, classes in CLASSES.items()
            if count == 1 or self._is_wanted_of_several(backend)
        }

    def _is_wanted_of_several(self, backend: BackendName) -> bool:
        """Not of Macs, nor of a model that needs far more than two."""
        return backend == "cuda" and not self.model.has_leaves

    def _class(self, backend: BackendName, name: Class, where: Places, count: int) -> list[int]:
        """The numbers of the lines of each device and the host: how large it is, and how much is in use."""
        targets = (target(BACKENDS[backend]),) * count
        try:
            context = resolve(self.model, _settings(CLASSES[backend][name], BATCH))
            if not _are_alike(self.model, backend, name, where, count):
                return []
            one = replace(context, n_ctx=self.step, n_ctx_seq=self.step)
            bends = list(self._bends(Run(self.model, one, targets, where)))
        except (SettingsError, OverflowError):
            return []
        return [self._number(bends, index) for index in range(2 * count + 2)]

    def _bends(self, run: Run) -> Iterator[Bend]:
        """Wherever a buffer is another line than before.

        Raises:
            OverflowError: there are too many.
        """
        steps, before = -(-BATCH // self.step), None
        for _ in range(MOST_LINES):
            piece = run.line(steps)
            if piece is None:
                break
            found = tuple(_line(number) for size in piece.sizes for number in size)
            if found != before:
                yield steps, found
            steps, before = piece.high + 1, found
            if steps > self.last:
                return
        raise OverflowError

    def _number(self, bends: list[Bend], index: int) -> int:
        """The number of one line, without bends that are another's."""
        pieces = [(low, *found[index]) for low, found in bends]
        own = (pieces[0], *(piece for before, piece in pairwise(pieces) if piece[1:] != before[1:]))
        return self._lines.setdefault(own, len(self._lines))


def _line(number: int | Linear) -> tuple[int, int]:
    return (number.slope, number.rest) if isinstance(number, Linear) else (0, number)


def _are_alike(model: Model, backend: BackendName, name: Class, where: Places, count: int) -> bool:
    """Whether all pairs of the class have the same buffers at some contexts."""
    sides = ("f16", *QUANTIZED)
    pairs = [(k, v) for k in sides for v in sides if class_of(backend, (k, v)) == name]
    pairs = [pair for pair in pairs if pair[0] == pair[1] or all(layer.has_v for layer in model.kinds)]
    targets = (target(BACKENDS[backend]),) * count
    for n_ctx in ALIKE:
        contexts = {resolve(model, _settings(pair, n_ctx)) for pair in pairs}
        if len({tuple(laid_out(model, context, targets, where)) for context in contexts}) > 1:
            return False
    return bool(pairs)


def _settings(pair: tuple[str, str], n_ctx: int) -> Settings:
    return Settings(n_ctx=n_ctx, cache_type_k=pair[0], cache_type_v=pair[1])


def render() -> str:
    """The file's text: one graph a line."""
    ids = {digest(full_precision(entry.id)): entry.id for entry in entries()}
    with ProcessPoolExecutor() as pool:
        records = pool.map(_record, ids.values(), chunksize=4)
        lines = [f"{json.dumps(of)}:{record}" for of, record in zip(ids, records, strict=True)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _record(id: str) -> str:
    return json.dumps(Graph(full_precision(id)).record(), separators=(",", ":"))


def main() -> int:
    """Write or check the file; 1 if the check fails."""
    return run(__doc__, BUFFERS, render)


if __name__ == "__main__":
    sys.exit(main())
