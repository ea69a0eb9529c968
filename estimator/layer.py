"""One block of the trunk: the dimensions and options of its attention, its feed-forward and what joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from estimator.mixers import Mixer

Activation = Literal["fused", "clamped", "situ"]
"""How gate and up projection of a feed-forward become one."""


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
    expert_factors: tuple[str, ...] = ()
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
