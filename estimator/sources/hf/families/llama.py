"""Llama and what differs from it in little (conversion/llama.py, granite.py, command_r.py, olmo.py, exaone.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.experts import by_field, by_interleave, experts, has_experts, shared
from estimator.sources.hf.keys import (
    no_head_dim,
    rope_parameters,
    whole,
    window,
    window_every,
    window_layers,
)
from estimator.sources.hf.parts import (
    BIASED,
    attention,
    embedding,
    flag,
    gated,
    norm,
    output,
    plain,
    where,
)
from estimator.sources.hf.rule import AROUND, Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys, Part
    from estimator.sources.hf.config import Config


def rope_freqs(build: Build) -> None:
    """Factors that stretch positions as Llama 3.1 does, made from the config (conversion/llama.py:297)."""
    rope = rope_parameters(build.config)
    if rope is not None and "llama3" in ((rope.text("rope_type") or "").lower(), (rope.text("type") or "").lower()):
        head = build.config.whole("head_dim", default=build.n_embd // build.n_head(0))
        build.make("rope_freqs.weight", (head + 1) // 2)


def rope_factors(build: Build) -> None:
    """Factors for long and for short contexts, made from the config (conversion/phi.py, minicpm.py)."""
    rope = rope_parameters(build.config)
    for name in ("long", "short"):
        if rope is not None and (factors := rope.items(f"{name}_factor")):
            build.make(f"rope_factors_{name}.weight", len(factors))


WITH_FREQS = (*AROUND, rope_freqs)
DENSE: tuple[Part, ...] = (norm("attn_norm"), attention(BIASED, BIASED), norm("ffn_norm"), gated(flag("mlp_bias")))
MIXED: tuple[Part, ...] = (
    norm("attn_norm"),
    attention(BIASED, BIASED),
    norm("ffn_norm"),
    where(has_experts, (experts(),), (gated(flag("mlp_bias")),)),
)
POST_NORMED: tuple[Part, ...] = (norm("post_attention_norm", "post_ffw_norm"), gated())
"""Norms that follow attention and feed-forward instead of leading."""


def _llama4_keys(config: Config, keys: Keys) -> None:
    keys["feed_forward_length"] = config.whole("intermediate_size_mlp")
    keys["expert_feed_forward_length"] = config.whole("intermediate_size")
    keys["interleave_moe_layer_step"] = config.whole("interleave_moe_layer_step", default=1)
    types = config.items("layer_types")
    if types and all(item == "full_attention" for item in types):
        keys["attention.sliding_window"] = 0


def _exaone4_pattern(config: Config, keys: Keys) -> None:
    """The layers with a window (conversion/exaone.py:75-91)."""
    n = config.n_layer
    pattern = config.value("sliding_window_pattern")
    if not config.has("sliding_window"):
        return
    if config.has("layer_types"):
        window_layers(config, keys)
    elif isinstance(pattern, str) and pattern:
        keys["attention.sliding_window_pattern"] = tuple(pattern[il % len(pattern)] == "L" for il in range(n))
    else:
        window_every(config.whole("sliding_window_pattern", default=4, low=1))(config, keys)


def _xielu(build: Build) -> None:
    """Numbers of the activation of each layer, which become keys (conversion/llama.py, ApertusModel)."""
    build.n_left += 4 * build.n_layer


def granite_multipliers(config: Config, keys: Keys) -> None:
    """Factors of the residual stream that add operations to the graph (conversion/granite.py:33-48)."""
    if scale := config.real("embedding_multiplier", default=1.0):
        keys["embedding_scale"] = scale


GRANITE_KEYS = (
    no_head_dim,
    granite_multipliers,
    whole("expert_shared_feed_forward_length", "shared_intermediate_size"),
)
GRANITE_MOE: tuple[Part, ...] = (
    norm("attn_norm"),
    attention(BIASED, BIASED),
    norm("ffn_norm"),
    where(has_experts, (experts(), shared(by_field("shared_intermediate_size"))), (gated(),)),
)
"""Without experts, what the config calls shared is the feed-forward itself, and as wide."""

_LLAMA = Rule("llama", MIXED, around=WITH_FREQS)
_OLMO2 = Rule(
    "olmo2",
    (attention(BIASED, BIASED, qk_norm="width"), *POST_NORMED),
)
_EXAONE4 = Rule(
    "exaone4",
    (attention(qk_norm="head"), *POST_NORMED),
    keys=(window(), _exaone4_pattern),
    around=WITH_FREQS,
    defaults={"sliding_window": 4096},
)

RULES = {
    **dict.fromkeys(
        (
            "LlamaForCausalLM",
            "LLaMAForCausalLM",
            "MistralForCausalLM",
            "MixtralForCausalLM",
            "IQuestCoderForCausalLM",
            "VLlama3ForCausalLM",
            "VoxtralForConditionalGeneration",
            "LlamaModel",
            "InternLM3ForCausalLM",
        ),
        _LLAMA,
    ),
    "LlavaForConditionalGeneration": replace(
        _LLAMA,
        # transformers fills in Llama's sizes, which the first Llava's config leaves out.
        defaults={
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
        },
        beside=(encoders.LLAVA,),
    ),
    "ArceeForCausalLM": Rule("arcee", (*DENSE[:3], plain(flag("mlp_bias"))), around=WITH_FREQS),
    "ApertusForCausalLM": Rule(
        "apertus",
        (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="head"), norm("ffn_norm"), plain()),
        around=(*AROUND, rope_freqs, _xielu),
        defaults={"rope_parameters": {"rope_type": "llama3"}},
    ),
    "CohereForCausalLM": Rule(
        "command-r",
        (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="heads", qk_norm_if=flag("use_qk_norm")), gated()),
        keys=(whole("context_length", "model_max_length", "max_position_embeddings"),),
        tied=True,
    ),
    "Cohere2ForCausalLM": Rule(
        "cohere2", (norm("attn_norm"), attention(BIASED, BIASED), gated()), keys=(window(default=4096),), tied=True
    ),
    "Exaone4ForCausalLM": _EXAONE4,
    "Exaone4_5_ForConditionalGeneration": replace(_EXAONE4, beside=(encoders.QWEN25_VL,)),
    "ExaoneForCausalLM": Rule("exaone", (norm("attn_norm"), attention(), norm("ffn_norm"), gated()), around=WITH_FREQS),
    "GraniteForCausalLM": Rule("granite", DENSE, keys=GRANITE_KEYS[:2], around=WITH_FREQS),
    "GraniteMoeForCausalLM": Rule("granitemoe", GRANITE_MOE, keys=GRANITE_KEYS, around=WITH_FREQS),
    "GraniteMoeSharedForCausalLM": Rule("granitemoe", GRANITE_MOE, keys=GRANITE_KEYS, around=WITH_FREQS),
    "InternLM2ForCausalLM": Rule("internlm2", DENSE),
    "Llama4ForConditionalGeneration": (
        _LLAMA4 := Rule(
            "llama4",
            (
                norm("attn_norm"),
                attention(BIASED, BIASED),
                norm("ffn_norm"),
                where(by_interleave, (experts(), shared(lambda build, il: build.n_ff_exp(il))), (gated(),)),
            ),
            keys=(_llama4_keys,),
            around=WITH_FREQS,
        )
    ),
    "Llama4ForCausalLM": _LLAMA4,
    "OlmoForCausalLM": Rule("olmo", (attention(BIASED, BIASED), gated()), around=(embedding, output())),
    "Olmo2ForCausalLM": _OLMO2,
    "Olmo3ForCausalLM": Rule(
        "olmo2", _OLMO2.layer, keys=(window(), window_every(4)), defaults={"sliding_window": 4096}
    ),
    "OlmoeForCausalLM": Rule(
        "olmoe",
        (norm("attn_norm"), attention(BIASED, BIASED, qk_norm="width"), norm("ffn_norm"), experts()),
    ),
    "SeedOssForCausalLM": Rule(
        "seed_oss",
        (
            norm("attn_norm"),
            attention(flag("attention_bias", default=True), flag("attention_out_bias")),
            norm("post_attention_norm"),
            gated(flag("mlp_bias")),
        ),
    ),
    "SmolLM3ForCausalLM": Rule("smollm3", DENSE, around=WITH_FREQS, tied=True),
}
