"""What a model is: its tensors and, layer by layer, the dimensions that memory follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from estimator.ggml import ElementType, row_bytes
from estimator.traits import PLAIN, Traits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estimator.layer import Layer


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file. ``shape`` is in ggml's order: ``shape[0]`` is the length of a row."""

    name: str
    shape: tuple[int, ...]
    type: ElementType

    @property
    def name_in_stack(self) -> str:
        """The name without that of the stack: a layer holds a block of the encoder and one of the decoder."""
        return self.name.removeprefix("enc.").removeprefix("dec.")

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes without padding (ggml.c, ``ggml_nbytes`` of a contiguous tensor)."""
        return row_bytes(self.type, self.shape[0]) * math.prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class NGrams:
    """An embedding of the last tokens together: ``n_head`` rows of ``n_embd_head``, convolved with ``d_conv`` taps."""

    n_head: int
    n_embd_head: int
    d_conv: int


@dataclass(frozen=True, slots=True)
class Stacks:
    """Two stacks of blocks that layers share; each run of a block is a layer with a cache of its own.

    In each of ``h_cycles`` the low stack is run ``l_cycles`` times, then the high one.
    """

    n_per_stack: int
    h_cycles: int
    l_cycles: int

    @property
    def n_layer(self) -> int:
        return self.n_per_stack * self.h_cycles * (self.l_cycles + 1)

    def block(self, il: int) -> int:
        """The block whose weights layer ``il`` uses: those of the low stack come first."""
        is_high = il // self.n_per_stack % (self.l_cycles + 1) == self.l_cycles
        return il % self.n_per_stack + self.n_per_stack * is_high


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a model that is no GGUF file is stored as.

    ``parameters`` counts all weights of the checkpoint, also those that a GGUF of it lacks (encoders of images).
    ``n_bytes`` is what its tensors take, None where they are not known. ``quantization`` names the method, if one.
    """

    parameters: int
    n_bytes: int | None = None
    quantization: str | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A model as llama.cpp would load it, without any weight. Compared and hashed by identity.

    ``context_length`` is in tokens (the length it was trained for); ``file_type`` is the name people use
    (``"Q4_K_M"``), None where the header does not say. An embedding is ``n_deepstack_layers`` times longer than
    ``n_embd``, for as many first layers to which a part of it is added. ``n_nextn_layers`` behind the trunk predict
    further tokens: they count where layers are shared among devices, but are not loaded without a draft. ``stacks``:
    layers use the same weights in turn. ``n_loops``: the blocks of the file are run so often, each time as layers with
    caches of their own; ``normed_loops``: with the last norm between two loops. ``n_vocab_out``: logits of a row where
    they are not as many as tokens. ``first_heads``: heads of Q and of K that the header names for the first layer, None
    where it has what it is said to have.
    ``n_low_rank`` is the rank of the gates of residual streams. ``ngrams``: tokens are embedded with those before too.
    ``checkpoint``: the model was read from a checkpoint, and ``tensors`` are those of the GGUF that it converts to.
    """

    architecture: str
    name: str
    context_length: int
    n_embd: int
    n_vocab: int
    layers: tuple[Layer, ...] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    file_type: str | None = None
    traits: Traits = PLAIN
    n_deepstack_layers: int = 0
    n_nextn_layers: int = 0
    stacks: Stacks | None = None
    n_loops: int = 1
    normed_loops: bool = False
    n_vocab_out: int | None = None
    first_heads: tuple[int, int] | None = None
    n_low_rank: int = 0
    ngrams: NGrams | None = None
    checkpoint: Checkpoint | None = None

    @cached_property
    def parameters(self) -> int:
        """Elements of all tensors of the file, or weights of the checkpoint."""
        if self.checkpoint is not None:
            return self.checkpoint.parameters
        return sum(tensor.n_elements for tensor in self.tensors)

    @cached_property
    def weights_bytes(self) -> int:
        """Bytes of all tensors of the file, without padding; of a checkpoint's, where they are known.

        Estimates take the bytes of ``tensors``: of a checkpoint, those of the GGUF that it converts to.
        """
        if self.checkpoint is not None and self.checkpoint.n_bytes is not None:
            return self.checkpoint.n_bytes
        return sum(tensor.n_bytes for tensor in self.tensors)

    @cached_property
    def has_tied_output(self) -> bool:
        """Whether the embedding serves as the output matrix too."""
        return self.traits.output_matrix and not self.has("output.weight")

    @cached_property
    def has_learned_positions(self) -> bool:
        """Whether rows of a table of positions are added to the embedding."""
        return self.has("position_embd.weight")

    @cached_property
    def n_embd_out(self) -> int:
        """Width of an embedding that goes through a matrix of its own, 0 where the output norm gives it."""
        widths = (tensor.shape[1] for tensor in self.tensors if tensor.name == "cls.output.weight")
        return next(widths, 0) if self.traits.projected else 0

    @cached_property
    def n_embd_v_gqa_max(self) -> int:
        """Elements of V in the widest layer (llama-hparams.cpp, ``n_embd_v_gqa_max``)."""
        return max(layer.n_embd_v_gqa for layer in self.layers)

    @cached_property
    def has_leaves(self) -> bool:
        """Whether the graph of a layer has a tensor that is computed from nothing."""
        return any(layer.has_leaf for layer in self.kinds)

    @cached_property
    def block_tokens(self) -> int:
        """Tokens more that may be a block more for attention; 0 where a layer looks at each token for itself."""
        return (
            math.gcd(*(layer.block_tokens for layer in self.kinds)) if all(layer.n_swa for layer in self.kinds) else 0
        )

    @cached_property
    def n_gqa(self) -> int:
        """Heads of Q for each head of K and V, by the header's numbers for the first layer; 0 without heads of K."""
        n_head, n_head_kv = self.first_heads or (self.layers[0].n_head, self.layers[0].n_head_kv)
        return n_head // n_head_kv if n_head_kv else 0

    @cached_property
    def has_windows(self) -> bool:
        """Whether some layers have a cache for a window."""
        return any(layer.n_swa for layer in self.layers)

    @cached_property
    def has_states(self) -> bool:
        """Whether some layers keep a recurrent state."""
        return any(layer.n_embd_r or layer.n_embd_s for layer in self.layers)

    @cached_property
    def reads_parts(self) -> bool:
        """Whether layers read parts of inputs, so that each of them adds to what is copied before the first."""
        return any(layer.mixer and layer.mixer.reads_parts for layer in self.layers)

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """The different layers, in the order of their first appearance."""
        return tuple(dict.fromkeys(self.layers))

    @cached_property
    def layer_kinds(self) -> tuple[int, ...]:
        """For each layer its index into ``kinds``: most models have one or two."""
        index = {layer: i for i, layer in enumerate(self.kinds)}
        return tuple(index[layer] for layer in self.layers)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(tensor.name for tensor in self.tensors)

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return name in self._names

    def share_rope_factors(self, layers: Iterable[int]) -> bool:
        """Whether the tensor of RoPE factors that layers share is made for any of these."""
        own = [self.layers[il] for il in layers if il < self.n_layer // self.n_loops]
        return any(not (self.traits.rope_factors_in_full_layers and layer.n_swa) for layer in own)

    @property
    def n_layer(self) -> int:
        """Layers of the trunk."""
        return len(self.layers)

    @property
    def n_layer_all(self) -> int:
        """All layers of the file."""
        return self.n_layer + self.n_nextn_layers
