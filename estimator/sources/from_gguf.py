"""A GGUF header becomes a Model, as llama.cpp's loader reads it (src/llama-model.cpp:1300-1494, b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from estimator.errors import ModelError
from estimator.ggml import file_type_name
from estimator.layer import Layer
from estimator.model import Model, Stacks
from estimator.sources.architectures import architecture
from estimator.sources.gguf import GGUFHeader, read_header
from estimator.sources.hparams import MAX_EXPERTS, MAX_LAYERS, MAX_STREAMS, Facts, HParams
from estimator.sources.split import joined

if TYPE_CHECKING:
    from estimator.sources.architecture import Architecture, Window
    from estimator.sources.gguf import Source
    from estimator.traits import Traits


def read_gguf(source: Source, *shards: Source) -> Model:
    """The model that a GGUF file holds, or several that ``llama-gguf-split`` made of one.

    Args:
        source: the file's bytes, its path, or a binary stream. The header alone is enough.
        shards: the other files of the model, in any order.

    Raises:
        IncompleteHeaderError: the bytes end before the header does; ``need`` says how many to bring.
        ModelError: not a GGUF file, a damaged one, not all files, or an architecture that is not known.
    """
    return model_from_header(joined([read_header(one) for one in (source, *shards)]))


def model_from_header(header: GGUFHeader) -> Model:
    """The model that a header describes.

    Raises:
        ModelError: a key is missing or out of range, tensors are missing, or the architecture is not known.
    """
    name = header.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise ModelError("missing-key", "the header has no general.architecture", field="general.architecture")
    if header.metadata.get("general.type") == "adapter":
        raise ModelError("not-a-model", "this is an adapter for a model, not a model", field="general.type")
    rules = architecture(name)
    hparams = HParams(header, name)
    _check_names(header, hparams.n_layer_all)
    shapes = {tensor.name.removeprefix(rules.stack): tensor.shape for tensor in header.tensors}
    n_embd = hparams.whole("embedding_length", low=1)
    stacks = rules.stacks(hparams) if rules.stacks else None
    n_loops = hparams.whole("num_loops", 1, low=1, high=MAX_LAYERS // hparams.n_layer) if rules.loops else 1
    file_type = header.metadata.get("general.file_type")
    title = header.metadata.get("general.name")
    return Model(
        architecture=name,
        name=title if isinstance(title, str) else name,
        context_length=hparams.whole("context_length", low=1),
        n_embd=n_embd,
        n_vocab=_n_vocab(shapes, n_embd),
        layers=_layers(hparams, rules, n_embd, shapes, stacks) * n_loops,
        tensors=header.tensors,
        file_type=file_type_name(file_type) if isinstance(file_type, int) else None,
        traits=_traits(header, name, rules, hparams),
        stacks=stacks,
        n_loops=n_loops,
        normed_loops=not hparams.value("skip_loop_final_norm"),
        n_vocab_out=_n_vocab_out(shapes),
        first_heads=_first_heads(hparams),
        n_nextn_layers=hparams.n_layer_all - hparams.n_layer,
        n_low_rank=hparams.whole("hyper_connection.low_rank", 0),
        ngrams=rules.ngrams(hparams) if rules.ngrams else None,
        n_deepstack_layers=hparams.whole("n_deepstack_layers", 0, high=MAX_LAYERS) if rules.deepstack else 0,
    )


def _first_heads(hparams: HParams) -> tuple[int, int]:
    """Heads of Q and of K of the first layer, also where it is no attention."""
    n_head = hparams.per_layer("attention.head_count", 0)
    return n_head[0], hparams.per_layer("attention.head_count_kv", n_head)[0]


def _traits(header: GGUFHeader, name: str, rules: Architecture, hparams: HParams) -> Traits:
    """The traits of the architecture, with those that its models' headers tell apart."""
    traits = rules.traits
    if rules.parallel_by_key and header.metadata.get(f"{name}.use_parallel_residual"):
        traits = replace(traits, parallel="feed_forward")
    sections = header.metadata.get(f"{name}.rope.dimension_sections")
    if rules.m_rope_by_sections and isinstance(sections, tuple) and all(sections[:2]):
        traits = replace(traits, m_rope=True)
    if rules.embedding_scale is not None:
        traits = replace(traits, scaled_embedding=hparams.real("embedding_scale", rules.embedding_scale) != 0)
    if rules.hyper_connections:
        traits = replace(traits, hyper_connections=hparams.whole("hyper_connection.count", low=1, high=MAX_STREAMS))
    if rules.expert_weights_by_keys:
        divided = header.metadata.get(f"{name}.expert_weights_norm", False) is True
        traits = replace(traits, expert_weights="divided" if divided else "plain")
    if rules.expert_weights_by_keys or rules.scaled_experts_by_key:
        scaled = hparams.real("expert_weights_scale", 0.0) not in (0.0, 1.0)
        traits = replace(traits, scaled_experts=scaled)
    if header.metadata.get(f"{name}.attention.causal") is False:
        traits = replace(traits, causal=False)
    return rules.refine_traits(hparams, traits) if rules.refine_traits else traits


def _check_names(header: GGUFHeader, n_layer: int) -> None:
    """Every tensor of a block must belong to a layer that there is."""
    for tensor in header.tensors:
        part, _, rest = tensor.name_in_stack.partition(".")
        number = rest.partition(".")[0]
        if part == "blk" and not (number.isascii() and number.isdecimal() and int(number) < n_layer):
            raise ModelError("unknown-tensor", f"{tensor.name[:64]!r} belongs to none of the {n_layer} layers")


def _n_vocab(shapes: dict[str, tuple[int, ...]], n_embd: int) -> int:
    shape = shapes.get("token_embd.weight")
    if shape is None or len(shape) != 2 or shape[0] != n_embd:
        raise ModelError(
            "bad-embedding",
            f"token_embd.weight should be {n_embd} wide, one row a token; the header has {shape or 'none'}",
            field="token_embd.weight",
        )
    return shape[1]


def _n_vocab_out(shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Rows of the output matrix: a model of speech has fewer than tokens (qwen3vl.cpp:21-34)."""
    shape = shapes.get("output.weight")
    return shape[1] if shape and len(shape) == 2 else None


def _layers(
    hparams: HParams, rules: Architecture, n_embd: int, shapes: dict[str, tuple[int, ...]], stacks: Stacks | None
) -> tuple[Layer, ...]:
    n_head = hparams.per_layer("attention.head_count")
    if not n_head[0] and not rules.headless:
        raise ModelError("bad-value", "attention.head_count is 0: there is no attention", field="attention.head_count")
    n_head_kv = hparams.per_layer("attention.head_count_kv", n_head)
    n_embd_head_k, n_embd_head_v = _head_sizes(hparams, n_embd, n_head[0])
    n_expert = hparams.whole("expert_count", 0, high=MAX_EXPERTS)
    n_expert_used = hparams.per_layer("expert_used_count", 0, high=n_expert)
    n_ff = hparams.per_layer("feed_forward_length", 0)
    n_ff_exp = hparams.per_layer("expert_feed_forward_length", 0)
    n_expert_groups, n_group_used = _expert_groups(hparams, n_expert)
    n_embd_head_k_swa = hparams.whole("attention.key_length_swa", n_embd_head_k, low=1)
    n_embd_head_v_swa = hparams.whole("attention.value_length_swa", n_embd_head_v, low=1)
    windows = _windows(hparams, rules)
    facts = Facts(hparams, shapes, n_embd)
    layers = []
    for il in range(hparams.n_layer):
        block = stacks.block(il) if stacks else il
        is_empty = not n_head[il] and not n_ff[il]
        if not is_empty and not any(name.startswith(f"blk.{block}.") for name in shapes):
            raise ModelError("missing-tensor", f"layer {il} has no tensors", field=f"blk.{block}")
        experts = n_expert if f"blk.{block}.ffn_gate_inp.weight" in shapes else 0
        layer = Layer(
            n_head=n_head[il],
            n_head_kv=n_head_kv[il],
            n_embd_head_k=n_embd_head_k_swa if windows[il] else n_embd_head_k,
            n_embd_head_v=n_embd_head_v_swa if windows[il] else n_embd_head_v,
            n_swa=windows[il],
            n_ff=(n_ff_exp[il] or n_ff[il]) if experts else n_ff[il],
            n_expert=experts,
            n_expert_used=n_expert_used[il] if experts else 0,
            n_ff_shexp=shapes.get(f"blk.{block}.ffn_down_shexp.weight", (0, 0))[0] if experts else 0,
            gated_shexp=f"blk.{block}.ffn_gate_inp_shexp.weight" in shapes,
            n_expert_groups=n_expert_groups if experts else 0,
            n_group_used=n_group_used if experts else 0,
            fused_exps=f"blk.{block}.ffn_gate_up_exps.weight" in shapes,
            biased_probs=f"blk.{block}.exp_probs_b.bias" in shapes,
            feed_forward=_of_experts(shapes, block) if experts else _feed_forward(shapes, block, n_ff[il]),
            fused_qkv=f"blk.{block}.attn_qkv.weight" in shapes,
            attn_norm=rules.traits.unnamed_norms or f"blk.{block}.attn_norm.weight" in shapes,
            ffn_norm=rules.traits.unnamed_norms or f"blk.{block}.{rules.traits.ffn_norm}.weight" in shapes,
            wiring=rules.wiring,
            sinks=f"blk.{block}.attn_sinks.weight" in shapes,
            placed=rules.has_rope(il, windows),
            turned=rules.has_rope(il, windows) or f"blk.{block}.attn_q_norm.weight" in shapes,
            n_embd_attn_gate=shapes.get(f"blk.{block}.attn_gate.weight", (0, 0))[1] if rules.attn_gate else 0,
            fused_shexp=_is_fused_shexp(shapes, block),
            expert_factors=_expert_factors(shapes, block) if rules.expert_factors else (),
        )
        layers.append(rules.refine(facts, block, layer) if rules.refine else layer)
    _refuse_odd_norms(layers, rules)
    return tuple(layers)


def _head_sizes(hparams: HParams, n_embd: int, n_head: int) -> tuple[int, int]:
    """Of K and of V; ``n_head`` are the heads of the first layer: without any, the keys are not read."""
    if not n_head:
        return 0, 0
    n_embd_head = n_embd // n_head or None
    return (
        hparams.whole("attention.key_length", n_embd_head, low=1),
        hparams.whole("attention.value_length", n_embd_head, low=1),
    )


def _expert_groups(hparams: HParams, n_expert: int) -> tuple[int, int]:
    """Groups of experts and how many of them are used; none where all experts are one group."""
    count = hparams.whole("expert_group_count", 0, high=n_expert)
    if count <= 1:
        return 0, 0
    if n_expert % count:
        raise ModelError(
            "bad-value",
            f"{count} groups cannot share {n_expert} experts equally",
            field="expert_group_count",
        )
    return count, hparams.whole("expert_group_used_count", low=1, high=count - 1)


def _refuse_odd_norms(layers: list[Layer], rules: Architecture) -> None:
    """A block that norms one input and not the other is wired in a way that is not modelled."""
    if rules.half_normed:
        return
    layers = [layer for layer in layers if layer.wiring == "sequential"]
    if rules.traits.parallel is None and any(layer.attn_norm != layer.ffn_norm for layer in layers):
        message = "attention and feed-forward of a layer are not normed alike: how it is wired is not modelled"
        raise ModelError("unknown-layout", message, field="model")


def _of_experts(shapes: dict[str, tuple[int, ...]], il: int) -> Literal["gated", "plain"]:
    has_up, has_gate = (f"blk.{il}.ffn_{name}_exps.weight" in shapes for name in ("up", "gate"))
    return "plain" if has_up and not has_gate else "gated"


def _feed_forward(shapes: dict[str, tuple[int, ...]], il: int, n_ff: int) -> Literal["gated", "fused", "plain"]:
    if f"blk.{il}.ffn_gate.weight" in shapes:
        return "gated"
    up = shapes.get(f"blk.{il}.ffn_up.weight", (0, 0))
    return "fused" if up[1] == 2 * n_ff else "plain"


def _is_fused_shexp(shapes: dict[str, tuple[int, ...]], il: int) -> bool:
    """Whether one matrix computes gate and up of the experts that every token goes through."""
    up, down = (shapes.get(f"blk.{il}.ffn_{name}_shexp.weight", (0, 0)) for name in ("up", "down"))
    return 0 < 2 * down[0] == up[1]


def _expert_factors(shapes: dict[str, tuple[int, ...]], il: int) -> tuple[str, ...]:
    return tuple(name for name in ("gate", "up", "down") if f"blk.{il}.ffn_{name}_exps.scale" in shapes)


def _windows(hparams: HParams, rules: Architecture) -> tuple[int, ...]:
    """The window of each layer: an array in the file wins, then a period, then the architecture's own period."""
    window = rules.window
    n_swa = _window_size(hparams, window) if window else 0
    if not window or not n_swa or window.n_layer not in (None, hparams.n_layer):
        return (0,) * hparams.n_layer
    pattern = hparams.flags("attention.sliding_window_pattern")
    if pattern is None:
        if window.needs_list:
            raise ModelError(
                "missing-key",
                "the header has no list of the layers with a window",
                field="attention.sliding_window_pattern",
            )
        period = hparams.whole("attention.sliding_window_pattern", window.period)
        pattern = tuple(window.covers(il, period) for il in range(hparams.n_layer))
    return tuple(n_swa if windowed else 0 for windowed in pattern)


def _window_size(hparams: HParams, window: Window) -> int:
    given = hparams.whole("attention.sliding_window", None if window.needs_size else window.default or 0)
    return window.size if given and window.size else given
