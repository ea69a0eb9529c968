"""What is added to the embedding of the tokens before the first layer (src/models/bert.cpp:88-97, llama.cpp b11434)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.memory.alloc import HOST, Node

if TYPE_CHECKING:
    from estimator.memory.builder import Graph


def joined(graph: Graph, embedded: Node) -> Node:
    """The embedding with that of the position, which is looked up on the host, and of the token's type."""
    model = graph.model
    positions = graph.lookup(embedded.size, graph.positions) if model.has_learned_positions else None
    if model.has("token_types.weight"):
        of_type = Node(graph.row, device=HOST)  # a part of a weight: copied to where it is added
        embedded = graph.add(embedded.size, embedded, of_type, inplace=True)
    if not positions:
        return embedded
    # BERT adds the token to the position, other models add the position to the token.
    terms = (embedded, positions) if model.traits.cached else (positions, embedded)
    return graph.add(embedded.size, *terms, inplace=True)
