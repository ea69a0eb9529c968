"""Latent attention: DeepSeek, Kimi, GLM's later models (conversion/deepseek.py, glm.py, minicpm.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.experts import behind_dense, by_count, experts, shared
from estimator.sources.hf.families.llama import DENSE, WITH_FREQS, rope_factors
from estimator.sources.hf.keys import expert_width, no_head_dim, rope_parameters, scaled_experts, whole
from estimator.sources.hf.parts import BIASED, attention, gated, norm, where
from estimator.sources.hf.recurrent import indexer, latent
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys
    from estimator.sources.hf.config import Config


def latent_keys(config: Config, keys: Keys) -> None:
    """Latent attention and the experts behind the first dense layers (conversion/deepseek.py:155-225)."""
    n_rope, n_latent = config.whole("qk_rope_head_dim"), config.whole("kv_lora_rank", default=512)
    n_routed = config.maybe("n_routed_experts", "num_experts")
    keys["attention.head_count_kv"] = 1
    keys["leading_dense_block_count"] = config.whole(
        "first_k_dense_replace", default=0 if n_routed is not None else config.n_layer
    )
    if n_q := config.maybe("q_lora_rank"):
        keys["attention.q_lora_rank"] = n_q
    keys["attention.kv_lora_rank"] = n_latent
    keys["attention.key_length"] = n_latent + n_rope
    keys["attention.value_length"] = n_latent
    keys["attention.key_length_mla"] = config.whole("qk_nope_head_dim") + n_rope
    keys["attention.value_length_mla"] = config.whole("v_head_dim")
    keys["expert_feed_forward_length"] = config.whole("moe_intermediate_size", "intermediate_size")
    keys["expert_shared_count"] = config.whole("n_shared_experts", default=0)
    scaled_experts(config, keys)
    if not keys.get("expert_weights_norm"):
        keys.pop("expert_weights_norm", None)


def dense_first(config: Config, keys: Keys) -> None:
    """The dense layers in front as they are listed, where no field counts them (conversion/hy_v4.py:98-125)."""
    types = config.items("mlp_layer_types")
    if types is not None and not config.has("first_k_dense_replace"):
        dense = next((il for il, item in enumerate(types) if item != "dense"), len(types))
        keys["leading_dense_block_count"] = dense


def indexer_keys(config: Config, keys: Keys) -> None:
    keys["attention.indexer.head_count"] = config.whole("index_n_heads")
    keys["attention.indexer.key_length"] = config.whole("index_head_dim")
    keys["attention.indexer.top_k"] = config.whole("index_topk")


def indexer_types(config: Config, keys: Keys) -> None:
    if (types := config.items("indexer_types", config.n_layer)) is not None:
        keys["attention.indexer.types"] = tuple(item == "full" for item in types)


def _corrects_bias(build: Build) -> bool:
    """Whether experts' probabilities have an addend: DeepSeek V3 has, V2 has not."""
    return build.config.text("topk_method") in (None, "noaux_tc")


SHARED = by_count("n_shared_experts", "num_shared_experts")
_MOE = where(behind_dense, (experts(probs_bias=_corrects_bias), shared(SHARED)), (gated(),))
ALL_CORRECTED = where(behind_dense, (experts(probs_bias=True), shared(SHARED)), (gated(),))
_LATENT = (norm("attn_norm"), latent(bias=BIASED), norm("ffn_norm"))
INDEXED_LATENT = (norm("attn_norm"), latent(bias=BIASED), indexer, norm("ffn_norm"))

_V3_DEFAULTS = {"norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4}
_V3 = Rule("deepseek2", (*_LATENT, ALL_CORRECTED), keys=(latent_keys,), defaults=_V3_DEFAULTS)


def _is_mistral4(build: Build, il: int) -> bool:
    return build.config.text("model_type") == "mistral4"


def _mistral_keys(config: Config, keys: Keys) -> None:
    """Attention that is tempered with length; in Mistral 4 it is latent too (conversion/mistral3.py)."""
    if config.text("model_type") == "mistral4":
        latent_keys(config, keys)
    rope = rope_parameters(config)
    if rope is not None and rope.has("llama_4_scaling_beta"):
        keys["attention.temperature_scale"] = rope.real("llama_4_scaling_beta")


_FUSED_EXPERTS = where(behind_dense, (experts(fused=True), shared(SHARED)), (gated(),))
_MISTRAL3 = Rule(
    lambda config: "mistral4" if config.text("model_type") == "mistral4" else "mistral3",
    (where(_is_mistral4, (*_LATENT, _FUSED_EXPERTS), DENSE),),
    keys=(_mistral_keys,),
    around=WITH_FREQS,
)

RULES = {
    "Mistral3ForConditionalGeneration": replace(_MISTRAL3, beside=(encoders.PIXTRAL,)),
    "Ministral3ForCausalLM": _MISTRAL3,
    "Mistral4ForCausalLM": _MISTRAL3,
    "DeepseekForCausalLM": Rule(
        "deepseek",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED),
            norm("ffn_norm"),
            where(behind_dense, (experts(), shared(SHARED)), (gated(),)),
        ),
        keys=(
            whole("leading_dense_block_count", "first_k_dense_replace"),
            expert_width,
            whole("expert_shared_count", "n_shared_experts"),
        ),
    ),
    "DeepseekV2ForCausalLM": Rule(
        "deepseek2",
        (*_LATENT, where(behind_dense, (experts(), shared(SHARED)), (gated(),))),
        keys=(latent_keys,),
        defaults={"routed_scaling_factor": 1.0},
    ),
    "DeepseekV3ForCausalLM": _V3,
    "KimiK25ForConditionalGeneration": replace(_V3, beside=(encoders.KIMI,)),
    "KimiVLForConditionalGeneration": _V3,
    "DeepseekV32ForCausalLM": Rule(
        "deepseek32",
        (*INDEXED_LATENT, ALL_CORRECTED),
        keys=(latent_keys, indexer_keys),
        defaults={"norm_topk_prob": True},
    ),
    "Glm4MoeLiteForCausalLM": Rule(
        "deepseek2",
        (*_LATENT, ALL_CORRECTED),
        keys=(latent_keys,),
        defaults={"n_group": 1, "topk_group": 1, "norm_topk_prob": True},
    ),
    "GlmMoeDsaForCausalLM": Rule(
        "glm-dsa",
        (*INDEXED_LATENT, ALL_CORRECTED),
        keys=(latent_keys, indexer_keys, indexer_types),
        defaults={"n_group": 1, "topk_group": 1, "norm_topk_prob": True},
    ),
    "YoutuForCausalLM": Rule("deepseek2", (*_LATENT, _MOE), keys=(latent_keys,), tied=True, drops_tied_output=True),
    "MiniCPM3ForCausalLM": Rule(
        "minicpm3",
        (norm("attn_norm"), latent(split=False), norm("ffn_norm"), gated()),
        keys=(
            no_head_dim,
            whole("attention.q_lora_rank", "q_lora_rank"),
            whole("attention.kv_lora_rank", "kv_lora_rank"),
            lambda config, keys: keys.update(
                {"attention.key_length": config.whole("qk_nope_head_dim") + config.whole("qk_rope_head_dim")}
            ),
        ),
        around=(*AROUND, rope_factors),
        tied=True,
    ),
}
