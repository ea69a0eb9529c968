"""Which device computes an operation that reads no weight (ggml-backend.cpp:1206-1500, llama.cpp b11434).

llama.cpp knows where weights and caches lie, and with them where most operations go; each of the others joins a
neighbour (``ggml_backend_sched_split_graph``, pass 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.alloc import HOST, UNPLACED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from estimator.memory.alloc import Node


def assign(nodes: Sequence[Node]) -> None:
    """Give every node a device: first a GPU's if one is the neighbour before it or behind it, else the host's."""
    if all(node.device != UNPLACED for node in nodes):
        return
    for skipped in (HOST, UNPLACED):
        _spread(nodes, skipped)
        _spread(reversed(nodes), skipped)


def _spread(nodes: Iterable[Node], skipped: int) -> None:
    """Each node without a device takes that of the node before; ``skipped`` is a device that is not taken."""
    current = UNPLACED
    for node in nodes:
        if node.device == UNPLACED:
            node.device = current
        else:
            current = UNPLACED if node.device == skipped else node.device
