"""Encoders (conversion/bert.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from estimator.sources.hf.keys import fixed, no_head_dim
from estimator.sources.hf.parts import (
    attention,
    embedding,
    flag,
    gated,
    learned_positions,
    model_norm,
    norm,
    plain,
)
from estimator.sources.hf.rule import Rule

if TYPE_CHECKING:
    from estimator.sources.hf.build import Build, Keys, Part
    from estimator.sources.hf.config import Config

NOT_CAUSAL = (no_head_dim, fixed("attention.causal", False))

LAYER: tuple[Part, ...] = (
    attention(True, True),
    norm("attn_output_norm", bias=True),
    plain(True),
    norm("layer_output_norm", bias=True),
)


def _token_types(build: Build) -> None:
    if n_types := build.config.whole("type_vocab_size", default=0):
        build.add("token_types.weight", build.n_embd, n_types)


def _pooler(build: Build) -> None:
    """A matrix behind the first token, which the converter leaves out."""
    build.n_left += build.n_embd * (build.n_embd + 1)


def _without_padding(config: Config, keys: Keys) -> None:
    """RoBERTa's first positions stand for padding and are cut off (conversion/bert.py:276)."""
    offset = 1 + config.whole("pad_token_id", default=1)
    keys["context_length"] = max(config.whole("max_position_embeddings", low=1) - offset, 1)


def _padding(build: Build) -> None:
    build.n_left += (1 + build.config.whole("pad_token_id", default=1)) * build.n_embd


def _nomic_context(config: Config, keys: Keys) -> None:
    """Positions that the model was trained for, not those that it can be stretched to (conversion/bert.py, Nomic)."""
    if config.has("n_positions"):
        keys["context_length"] = {8192: 2048, 2048: 512}.get(n := config.whole("n_positions", low=1), n)


def _modern_window(config: Config, keys: Keys) -> None:
    keys["attention.sliding_window"] = config.whole("local_attention", default=128)
    keys["attention.sliding_window_pattern"] = config.whole("global_attn_every_n_layers", default=3, low=1)


def _modern_layer(build: Build, il: int) -> None:
    """The embedding is normed, so the first layer needs no norm; gate and up are one matrix (modern-bert.cpp)."""
    has_bias = build.config.flag("attention_bias")
    if il:
        build.weight(il, "attn_norm", build.n_embd)
    attention(has_bias, has_bias, fused=True)(build, il)
    build.weight(il, "ffn_norm", build.n_embd)
    build.weight(il, "ffn_up", build.n_embd, 2 * build.n_ff(il), bias=build.config.flag("mlp_bias"))
    build.weight(il, "ffn_down", build.n_ff(il), build.n_embd, bias=build.config.flag("mlp_bias"))


_BERT = Rule(
    "bert",
    LAYER,
    keys=NOT_CAUSAL,
    around=(embedding, learned_positions, _token_types, model_norm("token_embd_norm", bias=True), _pooler),
    tied=True,
    defaults={"type_vocab_size": 2},
)
_ROBERTA = replace(
    _BERT,
    keys=(*NOT_CAUSAL, _without_padding),
    around=(*_BERT.around, _padding),
    defaults={"type_vocab_size": 1, "max_position_embeddings": 514},
)
_MODERN = Rule(
    "modern-bert",
    (_modern_layer,),
    keys=(*NOT_CAUSAL, _modern_window),
    around=(embedding, model_norm("token_embd_norm"), model_norm("output_norm")),
    tied=True,
)

RULES = {
    "BertModel": _BERT,
    "DistilBertModel": replace(_BERT, around=(embedding, learned_positions, model_norm("token_embd_norm", bias=True))),
    "ModernBertModel": _MODERN,
    "ModernBertForMaskedLM": _MODERN,
    "NomicBertModel": Rule(
        "nomic-bert",
        (
            attention(flag("qkv_proj_bias"), flag("qkv_proj_bias"), fused=True),
            norm("attn_output_norm", bias=True),
            gated(),
            norm("layer_output_norm", bias=True),
        ),
        keys=(*NOT_CAUSAL, _nomic_context),
        around=(embedding, _token_types, model_norm("token_embd_norm", bias=True)),
        tied=True,
        defaults={"type_vocab_size": 2},
    ),
    "RobertaModel": _ROBERTA,
    "XLMRobertaModel": _ROBERTA,
}
