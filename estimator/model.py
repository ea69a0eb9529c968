"""What a model is: its tensors and, layer by layer, the dimensions that memory follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from estimator.ggml import ElementType, row_bytes
from estimator.traits import PLAIN, Traits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estimator.mixers import Mixer


Activation = Literal["fused", "clamped", "situ"]
"""How gate and up projection of a feed-forward become one."""


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
class Layer:
    """One block of the trunk, in the names of llama.cpp's ``llama_hparams``.

    ``n_swa`` is the attention window in tokens, 0 where the layer sees the whole context.
    ``n_ff`` is the width of the feed-forward, of one expert where ``n_expert`` is not 0.
    ``feed_forward``: ``gated`` multiplies a gate with an up projection, ``fused`` computes both with one matrix,
    ``plain`` has no gate, and ``none`` no matrix at all. ``n_ff_shexp`` is the width of the experts that every token
    goes through, 0 without any; ``gated_shexp`` tells that a factor for each token weighs them, ``fused_shexp`` that
    one matrix computes their gate and up. ``n_ff_dense`` is the width of a feed-forward of its own beside the experts,
    ``n_chunk_expert`` and ``n_ff_chexp`` are number and width of experts that come after them. ``fused_qkv``: one
    matrix computes Q, K and V. ``cached_without_heads``: the cache counts the layer though it has no heads: a
    transposed V is as wide there as anywhere. ``ffn_post_norm`` names the weight that norms what the feed-forward gave,
    as far as it matters where that is computed. ``n_embd_latent`` is the width of what the chosen experts work on, 0
    where it is the model's; ``latent`` names the matrices before and behind them, ``normed_latent``: what they gave is
    normed. ``tabled_experts``: a table names the experts of each token. ``activation`` and ``activation_exps``: what
    joins gate and up projection, of the dense feed-forward or shared experts and of the chosen ones; ``fused`` is one
    operation, ``clamped`` bounds both and multiplies them, ``situ`` bends them first. ``n_expert_groups``: of more than
    one group of experts the best ``n_group_used`` are chosen first.
    ``attn_norm`` and ``ffn_norm``: the input of attention, or of the feed-forward, is normed. ``turned``: RoPE or a
    norm makes a new Q and K of what the matrices gave; ``placed``: it is RoPE, which reads the positions.

    ``mixer`` are the dimensions of what stands in attention's place, None where it is attention over K and V.
    ``own_cache``: K and V are its own; without it Q looks at the cache of an earlier layer. ``v_from_k``: V is what the
    matrix of K gave, ``normed_v``: a norm makes a new V. ``scaled_q``: an input of one factor a token makes a new Q.
    ``sinks``: the softmax of the scores reads a weight.
    ``n_embd_attn_gate`` is the width of a gate that weighs what attention gave, by head or by element; 0 without it.
    ``fused_exps``: one matrix computes gate and up of an expert. ``expert_factors`` are those of ``gate``, ``up``
    and ``down`` that have a factor for each expert. ``biased_probs``: a bias that their weights do not have goes into
    the choice of experts.
    ``weighed_first``: what experts read is weighed, not what they give, by weights beside what they are chosen by.
    ``n_embd_per_layer`` is the width of what each token brings for this layer alone, 0 without it.
    ``scaled_output``: a factor for the whole layer weighs what it passes on. ``sub_norm``: the result of
    attention is normed before it is made as wide as the embedding. ``position_bias``: a bias for the distance of two
    tokens is added to scores; ``own_position_bias``: the layer has weights for it, else it reads those of the first.
    ``wiring`` names how the parts of the block are joined (``estimator.memory.block``). ``n_embd_r`` and ``n_embd_s``
    are the f32 elements of recurrent state that the layer keeps for one sequence (llama-hparams.cpp, same names), and
    ``n_embd_p`` those of the embedding of several tokens that it adds (``ple_conv_state``), 0 without one.
    ``n_banked``: so many layers before it have banked what they were given, and it reads it beside its own input;
    ``banks``: so does it.
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
    fused_shexp: bool = False
    n_ff_dense: int = 0
    n_chunk_expert: int = 0
    n_ff_chexp: int = 0
    fused_exps: bool = False
    n_expert_groups: int = 0
    n_group_used: int = 0
    biased_probs: bool = False
    tabled_experts: bool = False
    n_embd_latent: int = 0
    latent: str = "ffn_latent"
    normed_latent: bool = False
    activation: Activation = "fused"
    activation_exps: Activation = "fused"
    feed_forward: Literal["gated", "fused", "plain", "none"] = "gated"
    fused_qkv: bool = False
    cached_without_heads: bool = False
    attn_norm: bool = True
    ffn_norm: bool = True
    ffn_post_norm: str = ""
    turned: bool = True
    placed: bool = True
    own_cache: bool = True
    v_from_k: bool = False
    normed_v: bool = False
    sinks: bool = False
    sub_norm: bool = False
    position_bias: bool = False
    own_position_bias: bool = False
    scaled_q: bool = False
    n_embd_attn_gate: int = 0
    expert_factors: frozenset[str] = frozenset()
    weighed_first: bool = False
    n_embd_per_layer: int = 0
    scaled_output: bool = False
    mixer: Mixer | None = None
    wiring: str = "sequential"
    n_banked: int = 0
    banks: bool = False
    n_embd_r: int = 0
    n_embd_s: int = 0
    n_embd_p: int = 0

    @property
    def n_embd_k_gqa(self) -> int:
        """Elements that one token adds to the K cache of this layer."""
        return self.n_embd_head_k * self.n_head_kv

    @property
    def has_v(self) -> bool:
        """Whether the cache holds a V beside K."""
        return self.mixer is None or self.mixer.has_v

    @property
    def block_tokens(self) -> int:
        """Tokens that share a cell of a further cache, 0 without one."""
        return self.mixer.block_tokens if self.mixer else 0

    @property
    def has_leaf(self) -> bool:
        """Whether its graph has a tensor that is computed from nothing."""
        return self.mixer is not None and self.mixer.has_leaf

    @property
    def n_embd_v_gqa(self) -> int:
        """Elements that one token adds to the V cache of a layer that has one."""
        return self.n_embd_head_v * self.n_head_kv


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
    stacks: Stacks | None = None
    n_loops: int = 1
    normed_loops: bool = False
    n_vocab_out: int | None = None
    first_heads: tuple[int, int] | None = None
    n_low_rank: int = 0
    ngrams: NGrams | None = None

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
