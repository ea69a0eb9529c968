"""Qwen (conversion/qwen.py, qwenvl.py, qwen3vl.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.experts import by_field, by_step, experts, shared
from estimator.sources.hf.keys import expert_width, fixed, whole
from estimator.sources.hf.parts import BIASED, attention, flag, gated, norm, where
from estimator.sources.hf.recurrent import delta_net, is_listed
from estimator.sources.hf.rule import Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Keys
    from estimator.sources.hf.config import Config

SHARED = "shared_expert_intermediate_size"


def _deepstack(config: Config, keys: Keys) -> None:
    """Layers that a part of an image is added to (conversion/qwen3vl.py)."""
    vision = config.section("vision_config")
    layers = vision.items("deepstack_visual_indexes") if vision else None
    keys["n_deepstack_layers"] = len(layers or ())


def _no_deepstack(config: Config, keys: Keys) -> None:
    keys["n_deepstack_layers"] = 0


def _delta_keys(config: Config, keys: Keys) -> None:
    """Gated delta nets between layers of attention (conversion/qwen.py, Qwen3NextModel)."""
    keys["ssm.conv_kernel"] = config.whole("linear_conv_kernel_dim")
    keys["ssm.state_size"] = config.whole("linear_key_head_dim")
    keys["ssm.group_count"] = config.whole("linear_num_key_heads")
    keys["ssm.time_step_rank"] = config.whole("linear_num_value_heads", low=1)
    keys["ssm.inner_size"] = config.whole("linear_value_head_dim") * config.whole("linear_num_value_heads")
    keys["full_attention_interval"] = interval = config.whole("full_attention_interval", default=4, low=1)
    types = config.items("layer_types", config.n_layer)
    keys["attention.recurrent_layers"] = tuple(
        types[il] == "linear_attention" if types else (il + 1) % interval != 0 for il in range(config.n_layer)
    )


def _sections(config: Config, keys: Keys) -> None:
    keys.setdefault("rope.dimension_sections", (11, 11, 10, 0))


_MIXER = where(is_listed, (delta_net(fused_ba=False),), (attention(BIASED, BIASED, qk_norm="head", wide_q=2),))
_EXPERTS = (experts(), shared(by_field(SHARED), weighed=True))
_NORMS = norm("attn_norm", "post_attention_norm")
_MOE_KEYS = (expert_width, whole("expert_shared_feed_forward_length", SHARED))

_QWEN2 = Rule("qwen2", (norm("attn_norm"), attention(bias=True), norm("ffn_norm"), gated()))
_QWEN2VL = Rule("qwen2vl", _QWEN2.layer, beside=(encoders.QWEN25_VL,))
_QWEN3_LAYER = (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="head"), norm("ffn_norm"), gated())
_QWEN3MOE_LAYER = (*_QWEN3_LAYER[:3], where(by_step, (experts(),), (gated(),)))
_QWEN35 = Rule("qwen35", (_NORMS, _MIXER, gated()), keys=(_delta_keys, _sections))
_QWEN35MOE = Rule("qwen35moe", (_NORMS, _MIXER, *_EXPERTS), keys=(*_MOE_KEYS, _delta_keys, _sections))

RULES = {
    "Qwen2ForCausalLM": _QWEN2,
    "Qwen2Model": _QWEN2,
    "Qwen2AudioForConditionalGeneration": _QWEN2,
    "DreamModel": replace(_QWEN2, architecture="dream", keys=(fixed("attention.causal", False),)),
    "Qwen2VLForConditionalGeneration": replace(_QWEN2VL, beside=(encoders.QWEN2_VL,)),
    "Qwen2_5_VLForConditionalGeneration": _QWEN2VL,
    "Qwen2_5OmniModel": replace(_QWEN2VL, beside=()),
    "Qwen2MoeForCausalLM": Rule(
        "qwen2moe",
        (
            norm("attn_norm"),
            attention(bias=flag("qkv_bias", default=True)),
            norm("ffn_norm"),
            where(by_step, _EXPERTS, (gated(),)),
        ),
        keys=_MOE_KEYS,
    ),
    "Qwen3ForCausalLM": Rule("qwen3", _QWEN3_LAYER),
    "Qwen3Model": Rule("qwen3", _QWEN3_LAYER),
    "Qwen3MoeForCausalLM": Rule("qwen3moe", _QWEN3MOE_LAYER, keys=_MOE_KEYS),
    "Qwen3NextForCausalLM": Rule(
        "qwen3next",
        (
            _NORMS,
            where(is_listed, (delta_net(fused_ba=True),), (attention(BIASED, BIASED, qk_norm="head", wide_q=2),)),
            where(by_step, _EXPERTS, (gated(),)),
        ),
        keys=(*_MOE_KEYS, _delta_keys),
    ),
    "Qwen3VLForConditionalGeneration": Rule("qwen3vl", _QWEN3_LAYER, keys=(_deepstack,), beside=(encoders.QWEN3_VL,)),
    "Qwen3VLMoeForConditionalGeneration": Rule(
        "qwen3vlmoe", _QWEN3MOE_LAYER, keys=(*_MOE_KEYS, _deepstack), beside=(encoders.QWEN3_VL,)
    ),
    "Qwen3OmniMoeForConditionalGeneration": Rule("qwen3vlmoe", _QWEN3MOE_LAYER, keys=(*_MOE_KEYS, _no_deepstack)),
    "Qwen3_5ForConditionalGeneration": _QWEN35,
    "Qwen3_5ForCausalLM": _QWEN35,
    "Qwen3_5MoeForConditionalGeneration": _QWEN35MOE,
    "Qwen3_5MoeForCausalLM": _QWEN35MOE,
}
