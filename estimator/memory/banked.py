"""Residual attention across layers (kimi-k3.cpp:190-240, ``res_push`` and ``res_mix``, llama.cpp b11434).

Some layers bank what they were given. Each norm reads a weighed sum of all that was banked and of the residual.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from estimator.memory.scratch import F32_BYTES

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph

BANK: Final = "bank"
"""What was banked, in ``Graph.left``: side by side for each token."""


def bank(graph: Graph, n_banked: int, residual: Node, *, ahead: bool) -> None:
    """The residual is kept beside ``n_banked`` others: the first as it is, further ones with a copy of all before."""
    seen = residual.view(residual.size)
    if n_banked:
        with graph.ahead() if ahead else nullcontext():
            seen = graph.add((n_banked + 1) * residual.size, graph.left[BANK], seen)
    graph.left[BANK] = seen


def mixed(graph: Graph, n_banked: int, cur: Node, weight: str, *, ahead: bool) -> Node:
    """What was banked and ``cur``, weighed by their scores and added up.

    ``ahead``: what was banked is scored before that which ``cur`` is made from, where nothing has asked for it yet.
    """
    if not n_banked:
        return cur
    row = graph.n_tokens * F32_BYTES
    banked = graph.left[BANK]
    with graph.ahead() if ahead else nullcontext():
        of_bank = graph.add(n_banked * row, graph.norm(banked, 0, weight, banked.size))
    of_cur = graph.add(row, graph.norm(cur, graph.n_tokens, weight))
    scores = graph.add((n_banked + 1) * row, of_bank, of_cur)
    probs = graph.add(scores.size, scores, inplace=True)
    total = graph.add(cur.size, banked, graph.add(n_banked * row, probs))
    return graph.add(cur.size, total, graph.add(cur.size, cur, graph.add(row, probs)), inplace=True)
