"""One key of the tokens of a block (src/models/deepseek4.cpp:470-590 and 1000-1160, llama.cpp b11434).

A weighed sum of what two matrices make of the tokens, whose weights are a softmax over the block. Small blocks overlap:
each takes in the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.builder import I64_BYTES
from estimator.memory.scratch import F32_BYTES, I32_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.memory.alloc import Node
    from estimator.memory.builder import Graph
    from estimator.mixers import CompressedAttention


class BlockInputs:
    """Which rows make up each block, where it stands and is written, and which rows become the next state.

    Source: llama-kv-cache-dsv4.cpp:845-884, ``dsv4_build_reserve_comp_plan``.
    """

    def __init__(self, graph: Graph, mixer: CompressedAttention) -> None:
        n_tokens, n_stream = graph.n_tokens, graph.context.n_stream
        self.n_blocks = n_tokens // mixer.ratio + graph.context.n_seq_max
        self.n_read = (2 if mixer.overlaps else 1) * mixer.ratio * self.n_blocks
        self.n_persist = min(n_tokens, mixer.n_state_rows * n_stream)
        self.read = graph.input(self.n_read * I32_BYTES)
        self.positions = graph.input(n_tokens * I32_BYTES)
        self.block_positions = graph.input(self.n_blocks * I32_BYTES)
        self.write = graph.input(self.n_blocks * I64_BYTES)
        self.persist_from = graph.input(self.n_persist * I32_BYTES)
        self.persist_to = graph.input(self.n_persist * I32_BYTES)


def compress(
    graph: Graph, mixer: CompressedAttention, part: str, n_embd_head: int, normed: Node, turn: Callable[[], Node | None]
) -> None:
    """The keys of the blocks of a batch go to the cache, and what is left of it to the state.

    Args:
        part: ``attn`` or ``indexer``, whose keys they are.
        turn: asks for the matrix that turns the keys, None where they are not turned.
    """
    inputs = graph.once(("blocks", part, mixer.ratio), lambda: BlockInputs(graph, mixer))
    row = (2 if mixer.overlaps else 1) * n_embd_head * F32_BYTES
    of_block = inputs.n_read * n_embd_head * F32_BYTES
    kv = graph.add(graph.n_tokens * row, normed, weight=f"{part}_compressor_kv")
    values = _rows(graph, mixer, inputs, row, of_block, kv)
    score = graph.add(graph.n_tokens * row, normed, weight=f"{part}_compressor_gate")
    ape = graph.add(score.size, inputs.positions, weight=f"{part}_compressor_ape", product=False)
    score = graph.add(score.size, score, ape, inplace=True)
    scores = _rows(graph, mixer, inputs, row, of_block, score)
    weights = graph.add(of_block, scores, inplace=True)
    weighed = graph.add(of_block, values, weights, inplace=True)
    size = inputs.n_blocks * n_embd_head * F32_BYTES
    key = graph.add(size, graph.add(size, weighed))
    key = graph.norm(key, 0, f"{part}_compressor_norm", size)
    key = graph.add(size, key, inputs.block_positions, inplace=True)
    rot = turn()
    key = graph.add(size, rot, key) if rot else key
    graph.write(key, inputs.write)
    for source in (kv, score):
        graph.write(graph.add(inputs.n_persist * row, source, inputs.persist_from), inputs.persist_to)


def _rows(graph: Graph, mixer: CompressedAttention, inputs: BlockInputs, row: int, of_block: int, cur: Node) -> Node:
    """The rows of each block, from the state and the batch, in columns."""
    state = mixer.n_state_rows * graph.context.n_stream * row
    joined = graph.add(state + cur.size, graph.stored(state), cur)
    if not mixer.overlaps:
        return graph.add(of_block, graph.add(of_block, joined, inputs.read))
    none = graph.add(row, joined.view(row))
    joined = graph.add(joined.size + row, joined, none)
    rows = graph.add(inputs.n_read * row, joined, inputs.read)
    half = rows.view(rows.size // 2 - row // 2)
    before = graph.add(of_block // 2, half)
    both = graph.add(of_block, before, graph.add(of_block // 2, half))
    return graph.add(of_block, both)
