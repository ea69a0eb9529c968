"""Parts of a transformer's layer and of what stands around the layers: which tensors, of which shapes.

A part is a function of the model in the making and a layer; the functions here make parts. Names and shapes are those
of ``load_arch_tensors`` (src/models/*.cpp, b11434). ``bias`` says whether there is one, by the
config if it is a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.sources.hf.build import Build, Choice, Part

QKNorm = Literal["head", "width", "heads"]
"""Whether norms of Q and K have weights for one head, for all heads in a row, or for each head."""


def flag(name: str, *, default: bool = False) -> Callable[[Build], bool]:
    """A choice that a flag of the config makes."""
    return lambda build: build.config.flag(name, default=default)


BIASED = flag("attention_bias")
"""Biases of the matrices of attention, as most configs say it."""


def norm(*names: str, bias: Choice = False) -> Part:
    """Norms as wide as the model."""

    def part(build: Build, il: int) -> None:
        for name in names:
            build.weight(il, name, build.n_embd, bias=build.is_on(bias))

    return part


def attention(
    bias: Choice = False,
    out_bias: Choice = False,
    qk_norm: QKNorm | None = None,
    qk_norm_if: Choice = True,
    qk_norm_bias: Choice = False,
    fused: bool = False,
    wide_q: int = 1,
    sinks: bool = False,
    gate: Literal["head", "width"] | None = None,
) -> Part:
    """Attention with heads of K and V.

    Args:
        fused: one matrix computes Q, K and V.
        wide_q: Q is so often as wide, for a gate.
        sinks: each head has a sink.
        gate: a matrix of its own computes a gate for each head, or for each element.
    """

    def part(build: Build, il: int) -> None:
        n_embd, n_head, n_head_kv = build.n_embd, build.n_head(il), build.n_head_kv(il)
        head_k, head_v = build.n_embd_head_k(il), build.n_embd_head_v(il)
        has_bias = build.is_on(bias)
        n_q, n_k, n_v = head_k * n_head * wide_q, head_k * n_head_kv, head_v * n_head_kv
        if fused:
            build.weight(il, "attn_qkv", n_embd, n_q + n_k + n_v, bias=has_bias)
        else:
            for name, width in (("attn_q", n_q), ("attn_k", n_k), ("attn_v", n_v)):
                build.weight(il, name, n_embd, width, bias=has_bias)
        build.weight(il, "attn_output", head_v * n_head, n_embd, bias=build.is_on(out_bias))
        if qk_norm and build.is_on(qk_norm_if):
            for name, heads in (("attn_q_norm", n_head), ("attn_k_norm", n_head_kv)):
                shape = {"head": (head_k,), "width": (head_k * heads,), "heads": (head_k, heads)}[qk_norm]
                build.weight(il, name, *shape, bias=build.is_on(qk_norm_bias))
        if sinks:
            build.weight(il, "attn_sinks", n_head)
        if gate:
            build.weight(il, "attn_gate", n_embd, n_head if gate == "head" else head_v * n_head)

    return part


def gated(bias: Choice = False) -> Part:
    """A feed-forward with a gate."""

    def part(build: Build, il: int) -> None:
        has_bias = build.is_on(bias)
        build.weight(il, "ffn_gate", build.n_embd, build.n_ff(il), bias=has_bias)
        build.weight(il, "ffn_up", build.n_embd, build.n_ff(il), bias=has_bias)
        build.weight(il, "ffn_down", build.n_ff(il), build.n_embd, bias=has_bias)

    return part


def plain(bias: Choice = False) -> Part:
    """A feed-forward without a gate."""

    def part(build: Build, il: int) -> None:
        build.weight(il, "ffn_up", build.n_embd, build.n_ff(il), bias=build.is_on(bias))
        build.weight(il, "ffn_down", build.n_ff(il), build.n_embd, bias=build.is_on(bias))

    return part


def fused_gated(build: Build, il: int) -> None:
    """A feed-forward whose gate and up are one matrix."""
    build.weight(il, "ffn_up", build.n_embd, 2 * build.n_ff(il))
    build.weight(il, "ffn_down", build.n_ff(il), build.n_embd)


def where(wanted: Callable[[Build, int], bool], yes: tuple[Part, ...], no: tuple[Part, ...] = ()) -> Part:
    """Parts of the layers that are wanted, and of the others."""

    def part(build: Build, il: int) -> None:
        for inner in yes if wanted(build, il) else no:
            inner(build, il)

    return part


def embedding(build: Build) -> None:
    """The input embedding."""
    build.add("token_embd.weight", build.n_embd, build.n_vocab)


def learned_positions(build: Build) -> None:
    """A table of positions."""
    build.add("position_embd.weight", build.n_embd, build.key("context_length"))


def model_norm(name: str, *, bias: bool = False) -> Callable[[Build], None]:
    """A norm outside of the layers."""

    def part(build: Build) -> None:
        build.add(f"{name}.weight", build.n_embd)
        if bias:
            build.add(f"{name}.bias", build.n_embd)

    return part


def output(*, bias: Choice = False) -> Callable[[Build], None]:
    """The output matrix, unless the embedding is used."""

    def part(build: Build) -> None:
        if not build.tied:
            build.add("output.weight", build.n_embd, build.n_vocab)
        if build.is_on(bias):
            build.add("output.bias", build.n_vocab)

    return part
