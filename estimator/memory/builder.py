"""A graph under construction: operations in the order in which ggml computes them, as far as they need memory.

A view, and an operation that overwrites its source, such as a bias or a norm of a result that nobody else reads, adds
nothing and is left out.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar, cast

from estimator.ggml import ElementType, is_quantized, pad
from estimator.memory.alloc import HOST, UNPLACED, Node
from estimator.memory.fetching import FETCH_ROWS, FETCHING, fetched_bytes
from estimator.memory.scratch import F32_BYTES, I32_BYTES, scratch
from estimator.memory.section import BEFORE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from estimator.memory.context import Context
    from estimator.memory.placement import Place, Places
    from estimator.memory.scratch import Scratch
    from estimator.memory.target import Target
    from estimator.model import Model

T = TypeVar("T")

I64_BYTES: Final = 8

ROTATION: Final = 64
"""Smallest Hadamard matrix, and what a head size must be a multiple of (llama-kv-cache.cpp:315-357)."""


TOKENS: Final = "tokens"
"""The numbers of the tokens, in ``Graph.left``."""


class Graph:
    """Takes the operations. Sizes are bytes.

    ``embedded`` is what the first layer reads.
    ``n_tokens`` rows of the width of the model are computed, ``row`` bytes each; ``n_rows`` of them leave the layer
    that is being built, and from the last one (``is_last``) of most models only those that logits are wanted for;
    ``rows`` are those that operations have at this point. ``left`` holds what a layer leaves to those behind it, by
    name, and ``leaves`` each tensor that is computed from nothing, with its reader. ``is_simple``: one device holds
    everything. ``fuses_streams``: one operation spreads a result over residual streams; llama.cpp does without where
    that would end up on another device than its layer (``resolve_fused_ops``). ``reorders``: some nodes are computed
    before those of an earlier layer. ``shared`` are nodes that one layer computes for several.
    """

    def __init__(self, model: Model, context: Context, targets: Sequence[Target], places: Places) -> None:
        self.model = model
        self.context = context
        self.n_tokens = pad(context.n_tokens, context.n_seq_max)
        self.row = model.n_embd * F32_BYTES
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self.leaves: list[tuple[Node, Node]] = []
        self.shared: set[Node] = set()
        self.left: dict[str, Node] = {}
        self.is_last = False
        self.reorders = False
        self._settled = 0
        self._embedded = BEFORE
        self._made: dict[Hashable, object] = {}
        self._cache_devices: dict[Hashable, int] = {}
        self._targets = targets
        self.keeps_wishes = targets[0].is_real
        self._names_norms = self.keeps_wishes and places.is_full  # llama-context.cpp:2638-2663
        self._places = places
        self.is_simple = len(targets) == 1 and places.is_whole and context.offload_kqv
        self.fuses_streams = model.traits.pinned_layers or places.output.device == HOST or not places.holds(HOST)
        self._free_device = 0 if self.is_simple else UNPLACED
        self._device = 0
        self._cache_device = 0
        self._on_host: frozenset[str] = frozenset()
        self.rows = self.n_tokens

    @property
    def scratch(self) -> Scratch:
        """Of the device that holds the layer."""
        return scratch("generic") if self._device == HOST else self._targets[self._device].scratch

    @property
    def embedded(self) -> Node:
        """What the first layer reads, for others that read it too."""
        self.shared.add(self._embedded)
        return self._embedded

    @embedded.setter
    def embedded(self, node: Node) -> None:
        self._embedded = node

    @property
    def is_on_host(self) -> bool:
        """Whether the layer lies there."""
        return self._device == HOST

    @property
    def n_rows(self) -> int:
        return self.context.n_outputs if self.narrows else self.n_tokens

    @property
    def narrows(self) -> bool:
        """Whether the layer is the last, and passes on only the rows that logits are wanted for."""
        return self.is_last and self.model.traits.selects_rows == "in_last_layer"

    def enter(self, place: Place, cache: Place | None = None) -> None:
        """What follows belongs to a layer, or to the output, that lies at ``place``; its cache may lie elsewhere."""
        self._device = place.device
        self._cache_device = (cache or place).device if self.context.offload_kqv else HOST
        self._on_host = place.on_host
        self.rows = self.n_tokens

    @contextmanager
    def in_layer(self, il: int | None) -> Iterator[None]:
        """What is added meanwhile reads weights of another layer; None: of the same."""
        entered = self._device, self._on_host
        if il is not None:
            self.enter(self._places.layers[il])
        yield
        self._device, self._on_host = entered

    def take_nodes(self) -> tuple[list[Node], list[Node]]:
        """The nodes since the last time that they were taken: those that keep their place, and those that wait.

        What waits now comes before all that follows, unless that goes ahead: it comes where ``BEFORE`` is.
        """
        nodes, self.nodes = self.nodes, [BEFORE]
        settled, self._settled = self._settled, 0
        return nodes[:settled], nodes[settled:]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several layers share, such as the mask of a cache: made for the first of them."""
        if key not in self._made:
            n_nodes = len(self.nodes)
            self._made[key] = make()
            self.shared.update(self.nodes[n_nodes:])
        return cast("T", self._made[key])

    def input(self, size: int) -> Node:
        """A tensor that the program fills: it lies in the host's buffer and is copied to where it is read."""
        node = Node(size, [], HOST)
        self.inputs.append(node)
        return node

    def filled(self, size: int) -> Node:
        """A tensor with one number everywhere: it has its place before all others, and is overwritten by itself."""
        leaf = Node(size, device=UNPLACED)
        node = self.add(size, leaf, inplace=True)
        self.leaves.append((leaf, node))
        self.inputs.append(leaf)
        return node

    def add(
        self,
        size: int,
        *sources: Node | None,
        weight: str | None = None,
        scratch: int = 0,
        inplace: bool = False,
        kept: bool = False,
        product: bool = True,
        viewed: bool = False,
    ) -> Node:
        """An operation; a size of 0 only reads its sources.

        Args:
            sources: what it reads, in order; None is left out, and so are weights and caches.
            weight: name of the weight that it reads, without its block: it is computed where that lies.
            product: whether it is a product of matrices.
            scratch: see ``Node``, as ``inplace`` and ``kept``.
        """
        device = self._free_device
        present = list(filter(None, sources))
        fetched = None
        if weight is not None:
            device = HOST if weight in self._on_host else self._device
            if device == HOST and self._is_fetched(product):
                device = FETCHING
                fetched = Node(fetched_bytes(self.model, weight), device=HOST)
                present.insert(0, fetched)
        node = Node(size, present, device, scratch, inplace, kept, fetched is not None, viewed)
        self.nodes.append(node)
        return node

    def _is_fetched(self, product: bool) -> bool:
        """Whether a device computes with a weight of the host's (ggml-backend.cpp:1110-1120)."""
        fetches = self._targets[FETCHING].fetches
        return self.rows >= FETCH_ROWS and (fetches == "everything" or (product and fetches == "products"))

    def write(self, *sources: Node | None) -> None:
        """Rows go to a cache or a state, which lies where the layer does, or in host memory."""
        present = [source for source in sources if source]
        self.nodes.append(Node(0, present, self._cache_device))
        self.settle()

    def settle(self) -> None:
        """All nodes so far keep their place (``ggml_build_forward_expand``); later ones wait until they are needed."""
        self._settled = len(self.nodes)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """What is added meanwhile is computed before the nodes that nothing has asked for yet."""
        self.reorders = True
        waiting = self.nodes[self._settled :]
        del self.nodes[self._settled :]
        yield
        self.settle()
        self.nodes += waiting

    def keep_cache(self, kind: Hashable) -> None:
        """The layer has a cache of its own, which later layers of this kind may read."""
        self._cache_devices[kind] = self._cache_device

    def stored(self, size: int, kind: Hashable = None) -> Node | None:
        """What the layer's cache, or that of a ``kind``, holds: elsewhere a copy of ``size`` bytes is read."""
        if self._free_device != UNPLACED:
            return None
        return Node(size, device=self._cache_devices.get(kind, self._cache_device))

    def view_of_weight(self, size: int) -> Node | None:
        """A view of a weight of the layer does not draw what reads it to where it lies: elsewhere it is a copy."""
        return None if self._free_device != UNPLACED else Node(size, device=self._device)

    def beside_cache(self, node: Node) -> Node:
        """What reads a cache in host memory without flash attention is computed there (llama-graph.cpp:2821)."""
        if self.keeps_wishes and not self.context.offload_kqv:
            node.device = HOST
        return node

    def reduces(self, node: Node, n_used: int) -> bool:
        """Whether one kernel weighs and adds up what so many experts gave, where ``node`` is computed."""
        return node.device >= 0 and 2 <= n_used <= self._targets[node.device].reduces

    def lookup(self, size: int, *sources: Node, inplace: bool = False, kept: bool = False) -> Node:
        """Rows of a weight of the input layer, which stays on the host."""
        node = Node(size, list(sources), HOST, 0, inplace, kept)
        self.nodes.append(node)
        return node

    def selected(self, node: Node) -> Node:
        """The rows that leave the layer."""
        return self.picked(node) if self.narrows else node

    def picked(self, node: Node) -> Node:
        """The rows that logits are wanted for."""
        self.rows = self.context.n_outputs
        return self.add(self.context.n_outputs * self.row, node, self.out_ids)

    @property
    def out_ids(self) -> Node:
        """Which rows logits are wanted for."""
        return self.once("out_ids", lambda: self.input(self.context.n_outputs * I32_BYTES))

    @property
    def positions(self) -> Node:
        """Where each token stands: one number, or four (M-RoPE)."""
        numbers = 4 if self.model.traits.m_rope else 1
        return self.once("positions", lambda: self.input(self.n_tokens * I32_BYTES * numbers))

    @property
    def attention_scale(self) -> Node:
        """A factor for each token, by its position."""
        return self.once("attention_scale", lambda: self.input(self.n_tokens * F32_BYTES))

    def norm(self, cur: Node, n_rows: int, weight: str, size: int = 0, *, subtracts_mean: bool | None = None) -> Node:
        """A norm, which reads no weight, and its weight: ``n_rows`` of the width of the model, or ``size`` bytes.

        Whether it subtracts the mean (``LLM_NORM``) is a trait of the model unless it is told.
        """
        size = size or n_rows * self.row
        inplace = not (self.model.traits.layer_norm if subtracts_mean is None else subtracts_mean)
        if self.model.traits.unnamed_norms:
            return self.add(size, cur, inplace=inplace)
        if self._free_device == UNPLACED:
            cur = self.add(size, cur, inplace=inplace)
            if self._names_norms and weight != "output_norm":
                cur.device = self._device
            return self.add(size, cur, weight=weight, inplace=True, product=False)
        return self.add(size, cur, weight=weight, inplace=inplace)

    def rotation(
        self, element_type: ElementType, n_embd_head: int, *, largest: bool, first: int | None = None
    ) -> Node | None:
        """The Hadamard matrix that turns a quantized side of the cache: for K as large as divides a head, for V 64.

        Args:
            first: head size of the model's first layer, which decides whether there is one, if another.
        """
        if not is_quantized(element_type) or (first or n_embd_head) % ROTATION:
            return None
        return self.hadamard(n_embd_head, largest=largest)

    def hadamard(self, n_embd_head: int, *, largest: bool) -> Node:
        """A Hadamard matrix as an input: as large as divides a head, or the smallest."""
        n = ROTATION
        while largest and n_embd_head % (2 * n) == 0:
            n *= 2
        return self.input(n * n * F32_BYTES)
