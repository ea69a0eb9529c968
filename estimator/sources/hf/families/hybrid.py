"""Recurrent layers, alone or between layers of attention (conversion/mamba.py, jamba.py, nemotron.py, ...)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf import encoders
from estimator.sources.hf.config import checked, missing, wrong
from estimator.sources.hf.experts import by_field, by_period, experts, shared
from estimator.sources.hf.families.llama import GRANITE_KEYS, GRANITE_MOE
from estimator.sources.hf.keys import expert_width, needed, no_head_dim, scaled_experts
from estimator.sources.hf.parts import BIASED, attention, embedding, flag, gated, model_norm, norm, output, plain, where
from estimator.sources.hf.recurrent import is_recurrent, mamba, mamba2, short_conv
from estimator.sources.hf.rule import Rule
from estimator.sources.hparams import MAX_LAYERS

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys, Part
    from estimator.sources.hf.config import Config

LONG: int = 2**20
"""The context of models that know no end (conversion/mamba.py)."""


def _no_attention(config: Config, keys: Keys) -> None:
    keys["context_length"] = LONG
    keys["feed_forward_length"] = 0
    keys["attention.head_count"] = 0
    keys.pop("attention.head_count_kv", None)


def _mamba_keys(config: Config, keys: Keys) -> None:
    n_embd = config.whole("hidden_size", "d_model", "mamba_d_model", low=1)
    keys["embedding_length"] = n_embd
    keys["ssm.conv_kernel"] = config.whole("conv_kernel", "d_conv", default=4)
    keys["ssm.inner_size"] = config.whole("intermediate_size", "d_inner", default=2 * n_embd)
    keys["ssm.state_size"] = config.whole("state_size", "d_state", default=16)
    rank = config.value("time_step_rank", "dt_rank")
    given = config.maybe("time_step_rank", "dt_rank") if rank != "auto" else None
    keys["ssm.time_step_rank"] = given or -(n_embd // -16)
    keys["ssm.dt_b_c_rms"] = config.text("model_type") == "falcon_mamba"


def _mamba2_keys(config: Config, keys: Keys) -> None:
    n_embd = config.whole("hidden_size", "d_model", "dim", low=1)
    head = config.whole("mamba_d_head", "head_dim", default=64, low=1)
    keys["embedding_length"] = n_embd
    keys["ssm.inner_size"] = d_inner = config.whole(
        "mamba_d_ssm",
        "intermediate_size",
        "d_inner",
        default=config.whole("mamba_expand", "expand", default=2) * n_embd,
    )
    keys["ssm.conv_kernel"] = config.whole("conv_kernel", "d_conv", default=4)
    keys["ssm.state_size"] = config.whole("state_size", "d_state", default=128)
    keys["ssm.time_step_rank"] = d_inner // head
    keys["ssm.group_count"] = config.whole("n_groups", default=1, low=1)


def _jamba_keys(config: Config, keys: Keys) -> None:
    n_embd, n_kv = config.whole("hidden_size", "mamba_d_model"), config.whole("num_key_value_heads")
    offset = config.whole("attn_layer_offset", default=4)
    period = config.whole("attn_layer_period", default=8, low=1)
    keys["attention.head_count_kv"] = tuple(
        n_kv if il >= offset and (il - offset) % period == 0 else 0 for il in range(config.n_layer)
    )
    keys["ssm.conv_kernel"] = config.whole("mamba_d_conv", default=4)
    keys["ssm.inner_size"] = config.whole("mamba_expand", default=2) * n_embd
    keys["ssm.state_size"] = config.whole("mamba_d_state", default=16)
    keys["ssm.time_step_rank"] = config.whole("mamba_dt_rank", default=-(n_embd // -16))


def _granite_name(config: Config) -> str:
    """Without a recurrent layer it is Granite, with experts or not (conversion/granite.py:296-303)."""
    if _has_mamba(config):
        return "granitehybrid"
    return "granitemoe" if config.whole("num_experts_per_tok", "num_experts_per_token", default=0) else "granite"


def _has_mamba(config: Config) -> bool:
    types = config.items("layer_types", config.n_layer)
    known = ("attention", "full_attention", "mamba", "linear_attention")
    if types and (odd := [item for item in types if item not in known]):
        raise wrong("layer_types", odd[0], f"made of {', '.join(known)}")
    return types is None or any(item not in known[:2] for item in types[: config.n_layer])


def _granite_hybrid_keys(config: Config, keys: Keys) -> None:
    types, n = config.items("layer_types", config.n_layer), config.n_layer
    if types is None:
        raise missing("layer_types")
    keys["rope.scaling.finetuned"] = not _has_mamba(config)
    if not _has_mamba(config):
        return
    n_kv = config.whole("num_key_value_heads")
    keys["attention.head_count_kv"] = tuple(
        n_kv if str(item).removeprefix("full_") == "attention" else 0 for item in types[:n]
    )
    keys["context_length"] = LONG
    keys["ssm.conv_kernel"] = config.whole("mamba_d_conv")
    keys["ssm.state_size"] = config.whole("mamba_d_state")
    keys["ssm.group_count"] = config.whole("mamba_n_groups")
    keys["ssm.inner_size"] = config.whole("mamba_expand") * config.whole("hidden_size")
    keys["ssm.time_step_rank"] = config.whole("mamba_n_heads")


_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
_WORDS = {
    **{word: word for word in _LETTERS.values()},
    "linear_attention": "mamba",
    "full_attention": "attention",
}


def _nemotron_kinds(config: Config) -> tuple[str, ...]:
    """What each layer is: one letter for each, or words (conversion/nemotron.py:250-270)."""
    name, known, kinds = "hybrid_override_pattern", _LETTERS, config.value("hybrid_override_pattern")
    if not isinstance(kinds, str):
        name, known, kinds = "layers_block_type", _WORDS, config.items("layers_block_type")
    if kinds is None:
        raise missing("hybrid_override_pattern", "layers_block_type")
    checked(f"length of {name}", len(kinds), 1, MAX_LAYERS)
    if odd := [kind for kind in kinds if not isinstance(kind, str) or kind not in known]:
        raise wrong(name, odd[0], f"made of {', '.join(known)}")
    return tuple(known[str(kind)] for kind in kinds)


def _nemotron_name(config: Config) -> str:
    return "nemotron_h_moe" if config.has("num_experts_per_tok") else "nemotron_h"


def _nemotron_keys(config: Config, keys: Keys) -> None:
    kinds = _nemotron_kinds(config)
    is_moe = config.has("num_experts_per_tok")
    n_ff = (
        config.whole("moe_intermediate_size") if is_moe else config.whole("intermediate_size", "n_inner", "hidden_dim")
    )
    n_kv = config.whole("num_key_value_heads")
    keys["block_count"] = len(kinds)
    keys["attention.head_count_kv"] = tuple(n_kv if kind == "attention" else 0 for kind in kinds)
    keys["feed_forward_length"] = tuple(n_ff if kind in ("mlp", "moe") else 0 for kind in kinds)
    keys["context_length"] = LONG
    head = config.whole("head_dim", "attention_head_dim", default=128)
    keys["attention.key_length"] = keys["attention.value_length"] = head
    keys["ssm.conv_kernel"] = config.whole("conv_kernel", "mamba_d_conv")
    keys["ssm.state_size"] = config.whole("ssm_state_size", "mamba_state_dim", "state_size")
    keys["ssm.group_count"] = config.whole("n_groups", "mamba_n_groups", "mamba_num_groups")
    keys["ssm.inner_size"] = config.whole("mamba_num_heads") * config.whole("mamba_head_dim")
    keys["ssm.time_step_rank"] = config.whole("mamba_num_heads")
    if not is_moe:
        return
    keys["expert_feed_forward_length"] = n_ff
    keys["expert_count"] = config.whole("n_routed_experts")
    keys["expert_shared_feed_forward_length"] = config.whole("moe_shared_expert_intermediate_size")
    keys["expert_shared_count"] = config.whole("n_shared_experts", default=1)
    keys["expert_group_count"] = config.whole("n_group", default=1)
    scaled_experts(config, keys)
    if n_latent := config.maybe("moe_latent_size"):
        keys["moe_latent_size"] = n_latent


def _latent_width(build: Build) -> int:
    return build.maybe("moe_latent_size") or build.n_embd


def _latent_projections(build: Build, il: int) -> None:
    if n_latent := build.maybe("moe_latent_size"):
        build.weight(il, "ffn_latent_down", build.n_embd, n_latent)
        build.weight(il, "ffn_latent_up", n_latent, build.n_embd)


def _nemotron_mixer(build: Build, il: int) -> None:
    kind = _nemotron_kinds(build.config)[il]
    for part in _NEMOTRON_PARTS[kind]:
        part(build, il)


_NEMOTRON_PARTS: dict[str, tuple[Part, ...]] = {
    "mamba": (mamba2(),),
    "attention": (attention(BIASED, BIASED),),
    "mlp": (plain(flag("mlp_bias")),),
    "moe": (
        experts(gate=False, probs_bias=True, n_in=_latent_width),
        _latent_projections,
        shared(by_field("moe_shared_expert_intermediate_size"), gate=False),
    ),
}


def _falcon_h1_keys(config: Config, keys: Keys) -> None:
    keys["ssm.inner_size"] = config.whole("mamba_d_ssm")
    keys["ssm.conv_kernel"] = config.whole("mamba_d_conv")
    keys["ssm.state_size"] = config.whole("mamba_d_state")
    keys["ssm.group_count"] = config.whole("mamba_n_groups")
    keys["ssm.time_step_rank"] = config.whole("mamba_d_ssm") // config.whole("mamba_d_head", low=1)


def _lfm2_keys(config: Config, keys: Keys) -> None:
    types = config.items("layer_types", config.n_layer)
    if types is None:
        full = config.wholes("full_attn_idxs")
        if full is None:
            raise missing("layer_types", "full_attn_idxs")
        types = tuple("full_attention" if il in full else "conv" for il in range(config.n_layer))
    n_kv = config.whole("num_key_value_heads")
    keys["attention.head_count_kv"] = tuple(n_kv if item == "full_attention" else 0 for item in types[: config.n_layer])
    keys["shortconv.l_cache"] = config.whole("conv_L_cache")


def _lfm2_width(config: Config, keys: Keys) -> None:
    """The feed-forward's width from that of a block (conversion/lfm2.py:46-62)."""
    n_ff = config.whole("block_ff_dim", "intermediate_size")
    if config.flag("block_auto_adjust_ff_dim"):
        multiple = config.whole("block_multiple_of", default=256, low=1)
        n_ff = int(2 * n_ff / 3)
        if config.has("block_ffn_dim_multiplier"):
            n_ff = int(config.real("block_ffn_dim_multiplier") * n_ff)
        n_ff = multiple * ((n_ff + multiple - 1) // multiple)
    keys["feed_forward_length"] = n_ff


_LFM2_MIXER = where(is_recurrent, (short_conv,), (attention(qk_norm="head"),))
_LFM2_AROUND = (embedding, model_norm("token_embd_norm"), output())
_LFM2 = Rule(
    "lfm2",
    (norm("attn_norm"), _LFM2_MIXER, norm("ffn_norm"), gated()),
    keys=(_lfm2_keys, _lfm2_width),
    around=_LFM2_AROUND,
    tied=True,
    defaults={"tie_embedding": True},
)


def _behind_dense(build: Build, il: int) -> bool:
    return il >= build.key("leading_dense_block_count")


_MAMBA = Rule("mamba", (norm("attn_norm"), mamba()), keys=(no_head_dim, _no_attention, _mamba_keys), tied=True)
_GRANITE_HYBRID = Rule(
    _granite_name,
    (norm("attn_norm"), where(is_recurrent, (mamba2(),), (attention(BIASED, BIASED),)), *GRANITE_MOE[2:]),
    keys=(*GRANITE_KEYS, _granite_hybrid_keys),
    defaults={"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2},
)

RULES = {
    "MambaForCausalLM": _MAMBA,
    "FalconMambaForCausalLM": _MAMBA,
    "Mamba2ForCausalLM": Rule("mamba2", (norm("attn_norm"), mamba2()), keys=(no_head_dim, _no_attention, _mamba2_keys)),
    "JambaForCausalLM": Rule(
        "jamba",
        (
            norm("attn_norm"),
            where(is_recurrent, (mamba(normed=True),), (attention(),)),
            norm("ffn_norm"),
            where(by_period, (experts(),), (gated(),)),
        ),
        keys=(no_head_dim, _jamba_keys),
        defaults={"num_experts": 16, "num_experts_per_tok": 2},
    ),
    "GraniteMoeHybridForCausalLM": _GRANITE_HYBRID,
    "NemotronHForCausalLM": Rule(_nemotron_name, (norm("attn_norm"), _nemotron_mixer), keys=(_nemotron_keys,)),
    "FalconH1ForCausalLM": Rule(
        "falcon-h1",
        (
            norm("attn_norm"),
            attention(BIASED, BIASED),
            mamba2(normed=flag("mamba_rms_norm")),
            # The converter writes this name without its end (conversion/falcon_h1.py).
            lambda build, il: build.add(f"blk.{il}.ffn_norm", build.n_embd),
            gated(flag("mlp_bias")),
        ),
        keys=(_falcon_h1_keys,),
    ),
    "Lfm2ForCausalLM": _LFM2,
    "LFM2ForCausalLM": _LFM2,
    "Lfm2VlForConditionalGeneration": replace(_LFM2, beside=(encoders.LFM2,)),
    "Lfm2MoeForCausalLM": Rule(
        "lfm2moe",
        (
            norm("attn_norm"),
            _LFM2_MIXER,
            norm("ffn_norm"),
            where(_behind_dense, (experts(probs_bias=flag("use_expert_bias", default=True)),), (gated(),)),
        ),
        keys=(_lfm2_keys, expert_width, needed("leading_dense_block_count", "num_dense_layers")),
        around=_LFM2_AROUND,
        tied=True,
    ),
}
