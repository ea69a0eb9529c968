"""Recurrent state in llama.cpp's graph (llama-graph.cpp:3587-3674, ``build_rs`` and ``build_rs_inp``, b11434).

A state is a row of f32 for each sequence. The worst-case graph has all sequences in one batch, so that no extra states
are left to be copied: the nodes that do it stay, and need the memory of one sequence less (``rs_s_copy`` without its
first number), or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.scratch import F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph


class StateInputs:
    """Where the state of each sequence comes from: ``rs_s_copy`` and two views of it, which are copied apart.

    ``main`` is for an operation that looks up the states of the batch itself (``s_copy_main``); ``tail``, all but the
    first, for the extra states that are gathered beside it (``s_copy_tail``).
    """

    def __init__(self, graph: Graph) -> None:
        n_seqs = graph.context.n_seq_max
        self.copy = graph.input(n_seqs * I32_BYTES)
        self.main = self.copy.view(n_seqs * I32_BYTES)
        self.tail = self.copy.view((n_seqs - 1) * I32_BYTES)


def state_inputs(graph: Graph) -> StateInputs:
    """Those of the model: all recurrent layers share them."""
    return graph.once("states", lambda: StateInputs(graph))


def gather_states(graph: Graph, n_embd: int) -> Node:
    """The states of the batch, ``n_embd`` elements a sequence: ``build_rs`` without a function of the caller's.

    They are asked for at once, so they come before what the layers before have left to be asked for.
    """
    with graph.ahead():
        clear_state(graph)
        rows = graph.add(_size(graph, n_embd), stored_states(graph, n_embd), state_inputs(graph).copy)
        graph.write(rows.view(0))
    return rows


def clear_state(graph: Graph) -> None:
    """The state of a sequence that begins is set to 0 where it lies: the first that ``build_rs`` does."""
    graph.write()


def stored_states(graph: Graph, n_embd: int) -> Node | None:
    """The stored states of a layer for an operation that looks them up itself; elsewhere it reads a copy of them."""
    return graph.stored(_size(graph, n_embd))


def copy_extra_states(graph: Graph, n_embd: int) -> None:
    """What ``build_rs`` does behind an operation that has looked up the states of the batch itself."""
    size = _size(graph, n_embd) - n_embd * F32_BYTES
    rows = graph.add(size, stored_states(graph, n_embd), state_inputs(graph).tail)
    graph.write(rows.view(0))


def write_conv_state(graph: Graph, joined: Node) -> None:
    """The last columns of what was convolved, which is one row of tokens for each channel, are the next state."""
    n_seq_tokens = graph.n_tokens // graph.context.n_seq_max
    graph.write(joined.view(joined.size - n_seq_tokens * F32_BYTES))


def _size(graph: Graph, n_embd: int) -> int:
    return graph.context.n_seq_max * n_embd * F32_BYTES
