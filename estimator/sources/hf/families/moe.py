"""Other mixtures of experts (conversion/gpt_oss.py, hunyuan.py, laguna.py, minimax.py, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimator.sources.hf.config import missing
from estimator.sources.hf.experts import behind_dense, by_field, experts, shared
from estimator.sources.hf.families.llama import BIASED
from estimator.sources.hf.keys import expert_width, needed, uniform, whole, window
from estimator.sources.hf.parts import attention, flag, gated, norm, where
from estimator.sources.hf.rule import Rule

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


RULES = {
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
    "HunYuanDenseV1ForCausalLM": Rule(
        "hunyuan-dense",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED, qk_norm="head", qk_norm_if=flag("use_qk_norm", default=True)),
            norm("ffn_norm"),
            gated(),
        ),
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
