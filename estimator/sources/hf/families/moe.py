"""Other mixtures of experts (conversion/gpt_oss.py, hunyuan.py, laguna.py, minimax.py, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.sources.hf.config import missing
from estimator.sources.hf.experts import behind_dense, by_count, by_field, by_types, experts, shared
from estimator.sources.hf.keys import expert_width, needed, uniform, whole, window
from estimator.sources.hf.parts import BIASED, attention, flag, gated, norm, where
from estimator.sources.hf.rule import Rule
from estimator.sources.hparams import MAX_EXPERTS

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config


def _hunyuan_moe_keys(config: Config, keys: Keys) -> None:
    """Numbers that may stand in lists, which must be uniform (conversion/hunyuan.py:100-130)."""
    keys["expert_shared_feed_forward_length"] = config.whole("intermediate_size")
    keys["expert_feed_forward_length"] = uniform(config, "moe_intermediate_size")
    keys["expert_used_count"] = uniform(config, "moe_topk")
    keys["expert_shared_count"] = uniform(config, "num_shared_expert")


def _hunyuan_shared(build: Build, il: int) -> int:
    return build.config.whole("intermediate_size") * uniform(build.config, "num_shared_expert")


def _hunyuan_dense_keys(config: Config, keys: Keys) -> None:
    for name in ("expert_count", "expert_used_count"):
        keys.pop(name, None)
    rope = config.section("rope_parameters", "rope_scaling")
    if rope is not None and "dynamic" in (rope.text("rope_type"), rope.text("type")):
        keys["context_length"] = 256 * 1024


def _laguna_keys(config: Config, keys: Keys) -> None:
    heads = config.wholes("num_attention_heads_per_layer", config.n_layer)
    keys["attention.head_count"] = (
        heads[: config.n_layer] if heads else (config.whole("num_attention_heads"),) * config.n_layer
    )
    if n_swa := config.whole("sliding_window", default=0):
        keys["attention.sliding_window"] = n_swa
    keys["expert_weights_norm"] = True
    keys["expert_weights_scale"] = config.real("moe_routed_scaling_factor", default=1.0)
    types = config.items("mlp_layer_types", config.n_layer)
    if types is None:
        raise missing("mlp_layer_types")
    keys["leading_dense_block_count"] = next((il for il, item in enumerate(types) if item != "dense"), len(types))


def _laguna_gate(build: Build, il: int) -> None:
    """A gate for each head, or for each element (conversion/laguna.py, ``_attn_gate_types``)."""
    gating = build.config.value("gating")
    if gating:
        per_head = gating == "per-head"
        width = build.n_head(il) * (1 if per_head else build.n_embd_head_v(il))
        build.weight(il, "attn_gate", build.n_embd, width)


def _ernie_keys(config: Config, keys: Keys) -> None:
    """Counts under names of their own (conversion/ernie.py:65-90)."""
    keys["expert_count"] = config.whole("moe_num_experts", high=MAX_EXPERTS)
    keys["expert_used_count"] = config.whole("moe_k", high=MAX_EXPERTS)
    keys["interleave_moe_layer_step"] = config.whole("moe_layer_interval", default=1, low=1)
    keys["leading_dense_block_count"] = config.whole("moe_layer_start_index", default=1)
    keys["expert_shared_count"] = config.whole("moe_num_shared_experts", default=0, high=MAX_EXPERTS)


def _ernie_sparse(build: Build, il: int) -> bool:
    first, step = build.key("leading_dense_block_count"), build.key("interleave_moe_layer_step")
    last = build.config.whole("moe_layer_end_index", default=build.n_layer - 1)
    return build.n_expert > 0 and first <= il <= last and (il + 1) % step == 0


def _mimo2_keys(config: Config, keys: Keys) -> None:
    """Layers with a window have other heads of K (conversion/mimo.py:150-200)."""
    n = config.n_layer
    hybrid = config.wholes("hybrid_layer_pattern", n, high=1)
    if hybrid is None:
        raise missing("hybrid_layer_pattern")
    n_kv, n_kv_swa = config.whole("num_key_value_heads"), config.whole("swa_num_key_value_heads")
    keys["attention.head_count_kv"] = tuple(n_kv_swa if windowed else n_kv for windowed in hybrid[:n])
    keys["attention.sliding_window"] = config.whole("sliding_window")
    keys["attention.sliding_window_pattern"] = tuple(bool(windowed) for windowed in hybrid[:n])
    keys["attention.value_length"] = config.whole("v_head_dim", low=1)


def _mimo2_sparse(build: Build, il: int) -> bool:
    pattern = build.config.wholes("moe_layer_freq", build.n_layer)
    return pattern is not None and pattern[il] > 0


def _mimo2_sinks(build: Build, il: int) -> None:
    kind = "swa" if build.is_windowed(il) else "full"
    if build.config.flag(f"add_{kind}_attention_sink_bias"):
        build.weight(il, "attn_sinks", build.n_head(il))


def _hy3_keys(config: Config, keys: Keys) -> None:
    n_shared = config.whole("num_shared_experts", default=1, high=MAX_EXPERTS)
    keys["expert_shared_feed_forward_length"] = config.whole("moe_intermediate_size") * n_shared
    keys["expert_weights_norm"] = config.flag("route_norm", default=True)
    keys["expert_weights_scale"] = config.real("router_scaling_factor", default=1.0)


def _minimax3_keys(config: Config, keys: Keys) -> None:
    """Numbers of the indexer in a section of its own (conversion/minimax.py, MiniMaxM3Model)."""
    section = config.section("sparse_attention_config")
    pattern = config.wholes("moe_layer_freq", config.n_layer)
    if section is None or pattern is None:
        raise missing("moe_layer_freq" if pattern is None else "sparse_attention_config")
    keys["expert_shared_count"] = config.whole("n_shared_experts", high=MAX_EXPERTS)
    keys["expert_weights_scale"] = config.real("routed_scaling_factor")
    keys["expert_weights_norm"] = True
    keys["leading_dense_block_count"] = next((il for il, kind in enumerate(pattern) if kind), len(pattern))
    names = {"head_count": "num_index_heads", "key_length": "index_dim", "top_k": "topk_blocks"}
    for key, name in {**names, "block_size": "block_size", "local_blocks": "local_block"}.items():
        keys[f"attention.indexer.{key}"] = section.whole(f"sparse_{name}")


def _minimax3_indexer(build: Build, il: int) -> None:
    n_head, head = build.key("attention.indexer.head_count"), build.key("attention.indexer.key_length")
    build.weight(il, "indexer.q_proj", build.n_embd, n_head * head)
    build.weight(il, "indexer.k_proj", build.n_embd, head)
    build.weight(il, "indexer.q_norm", head)
    build.weight(il, "indexer.k_norm", head)


_MINIMAX_M3 = Rule(
    "minimax-m3",
    (
        norm("attn_norm"),
        attention(qk_norm="head"),
        norm("ffn_norm"),
        where(
            behind_dense,
            (experts(probs_bias=True), shared(by_count("n_shared_experts")), _minimax3_indexer),
            (gated(),),
        ),
    ),
    keys=(needed("expert_feed_forward_length", "intermediate_size"), _minimax3_keys),
    always_f32=r"\.indexer\.",
)
_BIAS = flag("use_bias")
_MIMO2 = Rule(
    "mimo2",
    (
        norm("attn_norm"),
        attention(BIASED),
        _mimo2_sinks,
        norm("ffn_norm"),
        where(_mimo2_sparse, (experts(probs_bias=True),), (gated(),)),
    ),
    keys=(expert_width, _mimo2_keys),
)

_HUNYUAN_DENSE: Final = (
    norm("attn_norm"),
    attention(BIASED, BIASED, qk_norm="head", qk_norm_if=flag("use_qk_norm", default=True)),
    norm("ffn_norm"),
    gated(),
)

RULES = {
    "Ernie4_5ForCausalLM": Rule(
        "ernie4_5", (norm("attn_norm"), attention(_BIAS, _BIAS), norm("ffn_norm"), gated(_BIAS)), tied=True
    ),
    "Ernie4_5_MoeForCausalLM": Rule(
        "ernie4_5-moe",
        (
            norm("attn_norm"),
            attention(_BIAS, _BIAS),
            norm("ffn_norm"),
            where(
                _ernie_sparse,
                (experts(probs_bias=True), shared(by_count("moe_num_shared_experts"))),
                (gated(_BIAS),),
            ),
        ),
        keys=(expert_width, _ernie_keys),
        tied=True,
    ),
    "HYV3ForCausalLM": Rule(
        "hy_v3",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head"),
            norm("ffn_norm"),
            where(by_types, (experts(probs_bias=True), shared(by_count("num_shared_experts"))), (gated(),)),
        ),
        keys=(expert_width, _hy3_keys),
    ),
    "MiniMaxM3SparseForCausalLM": _MINIMAX_M3,
    "MiniMaxM3SparseForConditionalGeneration": _MINIMAX_M3,
    "MiMoV2FlashForCausalLM": _MIMO2,
    "MiMoV2ForCausalLM": _MIMO2,
    "GptOssForCausalLM": Rule(
        "gpt-oss",
        (
            norm("attn_norm"),
            attention(flag("attention_bias", default=True), flag("attention_bias", default=True), sinks=True),
            norm("post_attention_norm"),
            experts(bias=True),
        ),
        keys=(window(default=128), needed("expert_feed_forward_length", "intermediate_size")),
        defaults={"head_dim": 64},
    ),
    "HunYuanMoEV1ForCausalLM": Rule(
        "hunyuan-moe",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head", qk_norm_if=flag("use_qk_norm", default=True)),
            norm("ffn_norm"),
            experts(),
            shared(_hunyuan_shared),
        ),
        keys=(_hunyuan_moe_keys,),
        drops_tied_output=True,
    ),
    "HunYuanVLForConditionalGeneration": Rule(
        "hunyuan_vl",
        _HUNYUAN_DENSE,
        keys=(_hunyuan_dense_keys,),
        drops_tied_output=True,
    ),
    "HunYuanDenseV1ForCausalLM": Rule(
        "hunyuan-dense",
        _HUNYUAN_DENSE,
        keys=(_hunyuan_dense_keys,),
        drops_tied_output=True,
    ),
    "LagunaForCausalLM": Rule(
        "laguna",
        (
            norm("attn_norm"),
            attention(BIASED, qk_norm="head"),
            _laguna_gate,
            norm("ffn_norm"),
            where(
                behind_dense,
                (experts(probs_bias=True), shared(by_field("shared_expert_intermediate_size"))),
                (gated(),),
            ),
        ),
        keys=(
            expert_width,
            whole("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
            _laguna_keys,
        ),
    ),
    "MiniMaxM2ForCausalLM": Rule(
        "minimax-m2",
        (norm("attn_norm"), attention(qk_norm="width"), norm("ffn_norm"), experts(probs_bias=True)),
        keys=(needed("expert_feed_forward_length", "intermediate_size"),),
    ),
}
