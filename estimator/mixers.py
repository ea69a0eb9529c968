"""Dimensions of what may stand in attention's place: one class for each kind of mixer.

What each does to memory is in ``estimator.memory``: its graph in the module named after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mixer:
    """The base of all of them."""

    @property
    def has_v(self) -> bool:
        """Whether the layer's cache holds a V beside K."""
        return True

    @property
    def n_embd_indexer(self) -> int:
        """Elements that one token adds to a third cache: the keys of an indexer. 0 without one."""
        return 0

    @property
    def n_embd_indexer_v(self) -> int:
        """Elements of a V beside the indexer's keys, which nobody reads."""
        return 0

    @property
    def reads_parts(self) -> bool:
        """Whether each layer reads parts of inputs: all of them are copied before the first layer."""
        return False

    @property
    def block_tokens(self) -> int:
        """Tokens that share a cell of a cache beside the first: the indexer's is for blocks too. 0 without one."""
        return 0

    @property
    def has_leaf(self) -> bool:
        """Whether its graph has a tensor that is computed from nothing."""
        return False

    @property
    def n_chosen(self) -> int:
        """Tokens that an indexer chooses for one token to attend to, 0 without one."""
        return 0


@dataclass(frozen=True, slots=True)
class AltUp(Mixer):
    """Attention beside a product of ``laurel_rank``; ``sparse``: only the greatest of the feed-forward's gate stay."""

    laurel_rank: int
    sparse: bool


@dataclass(frozen=True, slots=True)
class Blocks(Mixer):
    """Attention to the ``top_k`` blocks of ``block_size`` tokens that an indexer chooses (MSA).

    The indexer has ``n_head`` heads of ``n_embd_head`` elements, one for each head of K, and one key for each token.
    Its cache has room for a head of V, ``n_embd_head_v`` elements, too (llama-kv-cache-msa.cpp:39-50).
    """

    n_head: int
    n_embd_head: int
    n_embd_head_v: int
    block_size: int
    top_k: int

    @property
    def n_chosen(self) -> int:
        return self.top_k * self.block_size

    @property
    def n_embd_indexer(self) -> int:
        return self.n_embd_head

    @property
    def n_embd_indexer_v(self) -> int:
        return self.n_embd_head_v

    @property
    def reads_parts(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class GatedAttention(Mixer):
    """Attention over K and V whose Q comes from one matrix with a gate, by which the result is multiplied."""


@dataclass(frozen=True, slots=True)
class Pools:
    """What chooses ``top_k`` tokens in pools of ``n_tokens`` each: the indexer has one key for a pool.

    ``gated``: a pool's key is a sum that gates weigh, else a mean. A row of the cache has the key of the token, its
    gate if there are any, and the key of its pool. ``has_tail``: tokens of a pool that is not full are seen too.
    ``own``: as in ``Indexer``.
    """

    n_head: int
    n_embd_head: int
    top_k: int
    n_tokens: int
    gated: bool
    has_tail: bool = True
    own: bool = True

    @property
    def n_embd_row(self) -> int:
        """Elements of a row of the cache."""
        return (3 if self.gated else 2) * self.n_embd_head


@dataclass(frozen=True, slots=True)
class PooledAttention(GatedAttention):
    """The same, to pools of tokens that an indexer chose."""

    pools: Pools

    @property
    def n_chosen(self) -> int:
        return self.pools.top_k

    @property
    def n_embd_indexer(self) -> int:
        return self.pools.n_embd_row

    @property
    def reads_parts(self) -> bool:
        return True

    @property
    def has_leaf(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(Mixer):
    """A gated delta net, in the names of llama.cpp's ``ssm_*`` hparams; ``dt_rank`` is the number of V's heads.

    ``fused_beta``: one matrix computes alpha and beta. ``fused_qkvz``: one matrix computes Q, K, V and the gate Z.
    ``repeated``: Q and K are repeated until they have as many heads as V. ``copies_state``: the next state of the
    convolution is copied before it is written.
    """

    d_conv: int
    d_inner: int
    d_state: int
    dt_rank: int
    n_group: int
    fused_beta: bool = False
    fused_qkvz: bool = False
    repeated: bool = False
    copies_state: bool = False


@dataclass(frozen=True, slots=True)
class KimiDeltaAttention(Mixer):
    """A delta net that forgets by element (KDA): heads of ``n_embd_head`` for Q, K and V, each convolved apart.

    ``n_lora_decay`` and ``n_lora_gate`` are the widths that the input is compressed to for how fast it forgets and for
    the gate of the result; 0 where one matrix computes them. ``gate`` names that matrix.
    """

    n_head: int
    n_embd_head: int
    n_lora_decay: int = 0
    n_lora_gate: int = 0
    gate: str = "ssm_g_a"


@dataclass(frozen=True, slots=True)
class LightningAttention(Mixer):
    """Linear attention with a state that decays, as wide as the layer's heads (MiniMax-01)."""


@dataclass(frozen=True, slots=True)
class Mamba(Mixer):
    """A selective state space (``ssm_d_conv`` and so on).

    ``norms``: of B, C and the time step; they may have no weights.
    """

    d_conv: int
    d_inner: int
    d_state: int
    dt_rank: int
    norms: Literal["none", "plain", "weighed"] = "none"


@dataclass(frozen=True, slots=True)
class Mamba2(Mixer):
    """A state space of several heads (``ssm_dt_rank`` is their number); ``normed``: what it gives is normed."""

    d_inner: int
    d_state: int
    n_head: int
    n_group: int
    normed: bool


@dataclass(frozen=True, slots=True)
class InterleavedMamba(Mixer):
    """A state space of ``n_head`` heads whose z and x come from one matrix, head by head in turn."""

    d_inner: int
    d_state: int
    dt_rank: int
    n_head: int


@dataclass(frozen=True, slots=True)
class ShortConv(Mixer):
    """A gated convolution of a few taps (LFM2), which looks back at ``n_embd_r`` elements of the layer's state."""


@dataclass(frozen=True, slots=True)
class Indexer:
    """What chooses the ``top_k`` tokens that a layer attends to (DSA): heads of its own, and one key for each token.

    ``own``: the layer has one; else it attends to what the last layer with an indexer chose. ``rotated``: a Hadamard
    matrix turns its queries and keys, whatever the type of the cache is.
    """

    n_head: int
    n_embd_head: int
    top_k: int
    own: bool = True
    rotated: bool = True


@dataclass(frozen=True, slots=True)
class CompressedAttention(Mixer):
    """Attention to a window and, where ``ratio`` is not 0, to blocks of ``ratio`` older tokens (DeepSeek V4).

    ``n_lora_q`` and ``n_lora_o`` are the widths that Q, and the result of each of ``n_group`` groups of heads, are
    compressed to. With an ``indexer`` each token sees the blocks that it chose, and blocks overlap.
    """

    n_lora_q: int
    n_lora_o: int
    n_group: int
    ratio: int = 0
    indexer: Indexer | None = None

    @property
    def has_v(self) -> bool:
        return False

    @property
    def n_embd_indexer(self) -> int:
        return self.indexer.n_embd_head if self.indexer else 0

    @property
    def block_tokens(self) -> int:
        return self.ratio

    @property
    def has_leaf(self) -> bool:
        return self.indexer is not None

    @property
    def overlaps(self) -> bool:
        """Whether a block takes in the one before."""
        return self.indexer is not None

    @property
    def n_state_rows(self) -> int:
        """Rows that the state keeps of tokens whose block is not full (llama-kv-cache-dsv4.cpp:1309-1327)."""
        return 2 * self.ratio if self.overlaps else self.ratio


@dataclass(frozen=True, slots=True)
class Latent(Mixer):
    """Attention over a latent vector that all heads share (MLA), in the names of llama.cpp's ``llama_hparams``.

    ``n_lora_q`` and ``n_lora_kv`` are the widths that Q, and K with V, are compressed to; an ``n_lora_q`` of 0 computes
    Q with one matrix. Of the ``n_embd_head_k_mla`` elements of a head's Q and K the last ``n_rot`` are apart: all heads
    share those of K. ``n_embd_head_v_mla`` are those of V. ``absorbed``: heads attend to the cached latent itself, and
    a matrix makes V of the result; else the cache holds the K and V of every head. ``normed_key``: the part of K that
    heads share is normed. ``tempered``: a factor for each token, which the host hands over, scales Q. ``n_gate`` are
    the elements for each token that gate the result, 0 without a gate; ``copies_gated``: what they gave is copied
    before it is projected.
    """

    n_lora_q: int
    n_lora_kv: int
    n_rot: int
    n_embd_head_k_mla: int
    n_embd_head_v_mla: int
    absorbed: bool = True
    normed_key: bool = False
    tempered: bool = False
    n_gate: int = 0
    copies_gated: bool = False
    indexer: Indexer | None = None
    pools: Pools | None = None

    @property
    def n_chosen(self) -> int:
        chooser = self.indexer or self.pools
        return chooser.top_k if chooser else 0

    @property
    def has_v(self) -> bool:
        return not self.absorbed

    @property
    def n_embd_indexer(self) -> int:
        if self.pools and self.pools.own:
            return self.pools.n_embd_row
        return self.indexer.n_embd_head if self.indexer and self.indexer.own else 0

    @property
    def has_leaf(self) -> bool:
        return self.indexer is not None or self.pools is not None

    @property
    def reads_parts(self) -> bool:
        return self.pools is not None
