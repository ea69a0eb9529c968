"""Mixtures of experts: their tensors, and which layers have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimator.sources.hf.build import Build, Choice, Part


def experts(
    *,
    gate: bool = True,
    fused: bool = False,
    probs_bias: Choice = False,
    bias: bool = False,
    n_in: Callable[[Build], int] | None = None,
) -> Part:
    """The experts of a layer and their router.

    Args:
        gate: an expert has a gate.
        fused: gate and up of an expert are one matrix.
        probs_bias: each expert's probability has an addend, which chooses it but does not weigh it.
        bias: the experts and the router have biases.
        n_in: width that the experts work in, where it is not the model's.
    """

    def part(build: Build, il: int) -> None:
        n_expert, n_ff = build.n_expert, build.n_ff_exp(il)
        width = n_in(build) if n_in else build.n_embd
        build.weight(il, "ffn_gate_inp", build.n_embd, n_expert, bias=bias)
        ups = ("gate_up",) if fused else ("gate", "up") if gate else ("up",)
        for name in ups:
            n_up = 2 * n_ff if fused else n_ff
            build.weight(il, f"ffn_{name}_exps", width, n_up, n_expert)
            if bias:
                build.add(f"blk.{il}.ffn_{name}_exps.bias", n_up, n_expert)
        build.weight(il, "ffn_down_exps", n_ff, width, n_expert)
        if bias:
            build.add(f"blk.{il}.ffn_down_exps.bias", width, n_expert)
        if build.is_on(probs_bias):
            build.add(f"blk.{il}.exp_probs_b.bias", n_expert)

    return part


def shared(width: Callable[[Build, int], int], *, gate: bool = True, weighed: bool = False) -> Part:
    """The expert that every token goes through; ``weighed`` by the input."""

    def part(build: Build, il: int) -> None:
        if not (n_ff := width(build, il)):
            return
        for name in ("gate", "up") if gate else ("up",):
            build.weight(il, f"ffn_{name}_shexp", build.n_embd, n_ff)
        build.weight(il, "ffn_down_shexp", n_ff, build.n_embd)
        if weighed:
            build.weight(il, "ffn_gate_inp_shexp", build.n_embd, 1)

    return part


def by_count(*names: str) -> Callable[[Build, int], int]:
    """So many experts side by side that every token goes through: the field says how many."""
    return lambda build, il: build.n_ff_exp(il) * build.config.whole(*names, default=0, high=1024)


def by_field(name: str) -> Callable[[Build, int], int]:
    """A width that a field says."""
    return lambda build, il: build.config.whole(name, default=0)


def behind_dense(build: Build, il: int) -> bool:
    """The layers behind those that the header says are dense."""
    return build.n_expert > 0 and il >= build.maybe("leading_dense_block_count")


def has_experts(build: Build, il: int) -> bool:
    """Every layer, where the model has experts."""
    return build.n_expert > 0


def by_types(build: Build, il: int) -> bool:
    """The layers that ``mlp_layer_types`` says are sparse."""
    types = build.config.items("mlp_layer_types", build.n_layer)
    return types is not None and types[il] == "sparse"


def by_step(build: Build, il: int) -> bool:
    """Every ``decoder_sparse_step``-th layer, except for those of ``mlp_only_layers`` (Qwen)."""
    if not build.n_expert or il in (build.config.wholes("mlp_only_layers") or ()):
        return False
    return (il + 1) % build.config.whole("decoder_sparse_step", default=1, low=1) == 0


def by_period(build: Build, il: int) -> bool:
    """Every ``expert_layer_period``-th layer from an offset on (Jamba); one expert is none."""
    period = build.config.whole("expert_layer_period", default=2, low=1)
    offset = build.config.whole("expert_layer_offset", default=1)
    return build.n_expert > 1 and il % period == offset


def by_interleave(build: Build, il: int) -> bool:
    """Every ``interleave_moe_layer_step``-th layer, or those of ``moe_layers`` (Llama 4)."""
    if (layers := build.config.wholes("moe_layers")) is not None:
        return il in layers
    step = build.config.whole("interleave_moe_layer_step", default=1)
    return step > 0 and (il + 1) % step == 0
