"""What llama-quantize reads from the name of a tensor: the part it plays, and whether it is quantized at all."""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from types import MappingProxyType
from typing import Final

NAMES: Final = 1 << 14
"""Names to remember the answers for: models share most of theirs, and the same model is asked again and again."""


class Category(Enum):
    """The part a tensor plays, as far as the rules tell parts apart."""

    OUTPUT = auto()
    TOKEN_EMBEDDING = auto()
    ATTENTION_V = auto()
    ATTENTION_K = auto()
    ATTENTION_Q = auto()
    ATTENTION_OUTPUT = auto()
    FFN_UP = auto()
    FFN_GATE = auto()
    FFN_DOWN = auto()
    OTHER = auto()


FFN: Final = frozenset({Category.FFN_UP, Category.FFN_GATE, Category.FFN_DOWN})

_WHOLE_NAMES: Final = MappingProxyType(
    {
        "output.weight": Category.OUTPUT,
        "token_embd.weight": Category.TOKEN_EMBEDDING,
        "per_layer_token_embd.weight": Category.TOKEN_EMBEDDING,
    }
)
# Searched in this order. A fused QKV and MLA's KV_B count as V, the part that suffers most: the source has a rule for
# fused QKV besides (line 689), which is never reached.
_NAME_PARTS: Final = (
    ("attn_qkv.weight", Category.ATTENTION_V),
    ("attn_kv_b.weight", Category.ATTENTION_V),
    ("attn_v.weight", Category.ATTENTION_V),
    ("attn_k.weight", Category.ATTENTION_K),
    ("attn_q.weight", Category.ATTENTION_Q),
    ("attn_output.weight", Category.ATTENTION_OUTPUT),
    ("ffn_up", Category.FFN_UP),
    ("ffn_gate", Category.FFN_GATE),
    ("ffn_down", Category.FFN_DOWN),
)


@lru_cache(maxsize=NAMES)
def category_of(name: str) -> Category:
    """The part that the tensor of this name plays (llama-quant.cpp:119-154, ``tensor_get_category``)."""
    whole = _WHOLE_NAMES.get(name)
    if whole is not None:
        return whole
    return next((category for part, category in _NAME_PARTS if part in name), Category.OTHER)


_KEPT_NAMES: Final = frozenset({"position_embd.weight", "token_types.weight"})
_KEPT_PARTS: Final = (
    "_norm.weight",
    # which expert a token goes to: too small to save anything, and much depends on it
    *("ffn_gate_inp.weight", "ffn_gate_tid2eid.weight"),
    # small matrices of gemma-3n
    *("altup", "laurel", "per_layer_model_proj"),
    # short convolutions, and the indexers of sparse attention
    *("ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight"),
    # RWKV's low-rank mixing
    *(
        f"time_mix_{part}.weight"
        for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2")
    ),
    *(f"time_mix_{part}.weight" for part in ("decay_w1", "decay_w2", "lerp_fused")),
    # T5's relative positions
    "attn_rel_b.weight",
    # vision and audio
    *(".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger"),
    *("a.rvq.codebook", "mm.a.code_embd"),
)
_KEPT_PARTS_OF: Final = MappingProxyType(
    {
        "glm5-next": (
            *("hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj"),
            *("indexer_compressor_gate", "indexer_compressor_ape"),
            *(f"ssm_{part}.weight" for part in ("f_a", "f_b", "g_a", "g_b", "beta")),
            *("attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight"),
        )
    }
)


@lru_cache(maxsize=NAMES)
def is_kept(name: str, architecture: str) -> bool:
    """Whether a matrix of this name stays as it is (llama-quant.cpp:287-386, ``tensor_allows_quantization``)."""
    return (
        not name.endswith("weight")
        or name in _KEPT_NAMES
        or any(part in name for part in _KEPT_PARTS)
        or any(part in name for part in _KEPT_PARTS_OF.get(architecture, ()))
    )
