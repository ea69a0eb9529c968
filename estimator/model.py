"""What a model is: its tensors and, layer by layer, the dimensions that memory follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

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
    ``fused_qkv`` and ``fused_gate_up`` tell that one matrix computes Q, K and V, or gate and up, at once.
    """

    n_head: int
    n_head_kv: int
    n_embd_head_k: int
    n_embd_head_v: int
    n_swa: int
    n_ff: int
    n_expert: int = 0
    n_expert_used: int = 0
    fused_qkv: bool = False
    fused_gate_up: bool = False

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
    ``normalized_expert_weights``: the weights of the chosen experts are divided by their sum.
    """

    scaled_embedding_rows: bool = False
    normalized_expert_weights: bool = True


PLAIN: Final = Traits()


@dataclass(frozen=True, eq=False)
class Model:
    """A model as llama.cpp would load it, without any weight. Compared and hashed by identity.

    ``context_length`` is in tokens (the length it was trained for); ``file_type`` is the name people use
    (``"Q4_K_M"``), None where the header does not say.
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
        return len(self.layers)
