"""What a model is: its tensors and, layer by layer, the dimensions that memory follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from estimator.ggml import ElementType, row_bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file. ``shape`` is in ggml's order: ``shape[0]`` is the length of a row."""

    name: str
    shape: tuple[int, ...]
    type: ElementType

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes without padding (ggml.c, ``ggml_nbytes`` of a contiguous tensor)."""
        return row_bytes(self.type, self.shape[0]) * math.prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the trunk, in the names of llama.cpp's ``llama_hparams``.

    ``n_swa`` is the attention window in tokens, 0 where the layer sees the whole context.
    ``n_ff`` is the width of the feed-forward, of one expert where ``n_expert`` is not 0.
    ``feed_forward``: ``gated`` multiplies a gate with an up projection, ``fused`` computes both with one matrix,
    ``plain`` has no gate. ``n_ff_shexp`` is the width of the experts that every token goes through, 0 without any;
    ``gated_shexp`` tells that a factor for each token weighs them. ``fused_qkv``: one matrix computes Q, K and V.
    ``attn_norm`` and ``ffn_norm``: the input of attention, or of the feed-forward, is normed. ``turned``: RoPE or a
    norm makes a new Q and K of what the matrices gave.
    """

    n_head: int
    n_head_kv: int
    n_embd_head_k: int
    n_embd_head_v: int
    n_swa: int
    n_ff: int
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_shexp: int = 0
    gated_shexp: bool = False
    feed_forward: Literal["gated", "fused", "plain"] = "gated"
    fused_qkv: bool = False
    attn_norm: bool = True
    ffn_norm: bool = True
    turned: bool = True

    @property
    def n_embd_k_gqa(self) -> int:
        """Elements that one token adds to the K cache of this layer."""
        return self.n_embd_head_k * self.n_head_kv

    @property
    def n_embd_v_gqa(self) -> int:
        """Elements that one token adds to the V cache of this layer."""
        return self.n_embd_head_v * self.n_head_kv


@dataclass(frozen=True, slots=True)
class Traits:
    """What an architecture's graph does beside the plain transformer, as far as it needs memory.

    ``scaled_embedding_rows``: the embedding is scaled by an input of one factor a row (gemma3);
    ``expert_weights``: those of the chosen experts are divided by their sum, go through a softmax, or stay;
    ``layer_norm``: norms subtract the mean, which ggml does not do in place;
    ``parallel``: attention and feed-forward read the same input, and the sum begins with the one named;
    ``m_rope``: four numbers place one token.
    """

    scaled_embedding_rows: bool = False
    expert_weights: Literal["divided", "softmax", "plain"] = "divided"
    layer_norm: bool = False
    parallel: Literal["attention", "feed_forward"] | None = None
    m_rope: bool = False


PLAIN: Final = Traits()


@dataclass(frozen=True, eq=False)
class Model:
    """A model as llama.cpp would load it, without any weight. Compared and hashed by identity.

    ``context_length`` is in tokens (the length it was trained for); ``file_type`` is the name people use
    (``"Q4_K_M"``), None where the header does not say. An embedding is ``n_deepstack_layers`` times longer than
    ``n_embd``, for as many first layers to which a part of it is added. ``n_nextn_layers`` behind the trunk predict
    further tokens: they count where layers are shared among devices, but are not loaded without a draft.
    """

    architecture: str
    name: str
    context_length: int
    n_embd: int
    n_vocab: int
    layers: tuple[Layer, ...]
    tensors: tuple[Tensor, ...]
    file_type: str | None = None
    traits: Traits = PLAIN
    n_deepstack_layers: int = 0
    n_nextn_layers: int = 0

    @cached_property
    def parameters(self) -> int:
        """Elements of all tensors of the file."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @cached_property
    def weights_bytes(self) -> int:
        """Bytes of all tensors of the file, without padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @cached_property
    def has_tied_output(self) -> bool:
        """Whether the embedding serves as the output matrix too."""
        return all(tensor.name != "output.weight" for tensor in self.tensors)

    @cached_property
    def n_embd_v_gqa_max(self) -> int:
        """Elements of V in the widest layer (llama-hparams.cpp, ``n_embd_v_gqa_max``)."""
        return max(layer.n_embd_v_gqa for layer in self.layers)

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """The different layers, in the order of their first appearance."""
        return tuple(dict.fromkeys(self.layers))

    @cached_property
    def layer_kinds(self) -> tuple[int, ...]:
        """For each layer its index into ``kinds``: most models have one or two."""
        index = {layer: i for i, layer in enumerate(self.kinds)}
        return tuple(index[layer] for layer in self.layers)

    @property
    def n_layer(self) -> int:
        """Layers of the trunk."""
        return len(self.layers)

    @property
    def n_layer_all(self) -> int:
        """All layers of the file."""
        return self.n_layer + self.n_nextn_layers
