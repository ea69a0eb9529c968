"""GLM with heads of K and V (conversion/glm.py, chatglm.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.experts import behind_dense, by_count, experts, shared
from estimator.sources.hf.keys import expert_width, no_head_dim, scaled_experts, whole
from estimator.sources.hf.parts import BIASED, attention, flag, fused_gated, gated, norm, where
from estimator.sources.hf.rule import Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Keys
    from estimator.sources.hf.config import Config


def _chatglm_keys(config: Config, keys: Keys) -> None:
    """Names of the first ChatGLM, or of transformers' port (conversion/chatglm.py:113-135)."""
    n_embd = config.whole("hidden_size", "n_embed", low=1)
    n_head = config.whole("n_head", "num_attention_heads", low=1)
    keys["context_length"] = config.whole("seq_length", default=n_embd, low=1)
    keys["embedding_length"] = n_embd
    keys["feed_forward_length"] = config.whole("ffn_hidden_size", "intermediate_size", default=4 * n_embd)
    keys["attention.head_count"] = n_head
    keys["attention.head_count_kv"] = config.whole("multi_query_group_num", "num_key_value_heads", default=n_head)


_GLM4 = Rule(
    "glm4",
    (norm("attn_norm"), attention(BIASED), norm("post_attention_norm", "ffn_norm", "post_ffw_norm"), fused_gated),
)
_GLM4MOE = Rule(
    "glm4moe",
    (
        norm("attn_norm"),
        attention(BIASED, qk_norm="head", qk_norm_if=flag("use_qk_norm")),
        norm("post_attention_norm"),
        where(behind_dense, (experts(probs_bias=True), shared(by_count("n_shared_experts"))), (gated(),)),
    ),
    keys=(
        expert_width,
        whole("expert_shared_count", "n_shared_experts"),
        whole("leading_dense_block_count", "first_k_dense_replace"),
        scaled_experts,
    ),
    defaults={"n_group": 1, "topk_group": 1, "norm_topk_prob": True},
)

RULES = {
    "GlmForCausalLM": Rule(
        "chatglm",
        (norm("attn_norm"), attention(BIASED), norm("ffn_norm"), fused_gated),
        keys=(no_head_dim, _chatglm_keys),
    ),
    "ChatGLMModel": Rule(
        "chatglm",
        (
            norm("attn_norm"),
            attention(flag("add_qkv_bias"), flag("add_bias_linear"), fused=True),
            norm("ffn_norm"),
            fused_gated,
        ),
        keys=(no_head_dim, _chatglm_keys),
    ),
    "Glm4ForCausalLM": _GLM4,
    "Glm4vForConditionalGeneration": replace(
        _GLM4, layer=(norm("attn_norm"), attention(bias=True), *_GLM4.layer[2:]), beside=(encoders.GLM4V,)
    ),
    "Glm4MoeForCausalLM": _GLM4MOE,
    "Glm4vMoeForConditionalGeneration": replace(_GLM4MOE, beside=(encoders.GLM4V,)),
    "SolarOpenForCausalLM": _GLM4MOE,
}
