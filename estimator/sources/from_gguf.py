"""A GGUF header becomes a Model, as llama.cpp's loader reads it (src/llama-model.cpp:1300-1494, b11434)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from estimator.errors import ModelError
from estimator.ggml import file_type_name
from estimator.model import Layer, Model, Traits
from estimator.sources.architectures import Architecture, architecture
from estimator.sources.gguf import GGUFHeader, read_header
from estimator.sources.hparams import MAX_EXPERTS, MAX_LAYERS, HParams

if TYPE_CHECKING:
    import os

    from estimator.sources.gguf_cursor import Readable


def read_gguf(source: bytes | bytearray | memoryview | str | os.PathLike[str] | Readable) -> Model:
    """The model that a GGUF file holds.

    Args:
        source: the file's bytes, its path, or a binary stream. The header alone is enough.

    Raises:
        IncompleteHeaderError: the bytes end before the header does; ``need`` says how many to bring.
        ModelError: not a GGUF file, a damaged one, or an architecture that is not known.
    """
    return model_from_header(read_header(source))


def model_from_header(header: GGUFHeader) -> Model:
    """The model that a header describes.

    Raises:
        ModelError: a key is missing or out of range, tensors are missing, or the architecture is not known.
    """
    name = header.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise ModelError("missing-key", "the header has no general.architecture", field="general.architecture")
    rules = architecture(name)
    hparams = HParams(header, name)
    _check_names(header, hparams.n_layer_all)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    n_embd = hparams.whole("embedding_length", low=1)
    file_type = header.metadata.get("general.file_type")
    title = header.metadata.get("general.name")
    return Model(
        architecture=name,
        name=title if isinstance(title, str) else name,
        context_length=hparams.whole("context_length", low=1),
        n_embd=n_embd,
        n_vocab=_n_vocab(shapes, n_embd),
        layers=_layers(hparams, rules, n_embd, shapes),
        tensors=header.tensors,
        file_type=file_type_name(file_type) if isinstance(file_type, int) else None,
        traits=_traits(header, name, rules),
        n_nextn_layers=hparams.n_layer_all - hparams.n_layer,
        n_deepstack_layers=hparams.whole("n_deepstack_layers", 0, high=MAX_LAYERS) if rules.deepstack else 0,
    )


def _traits(header: GGUFHeader, name: str, rules: Architecture) -> Traits:
    """The traits of the architecture; M-RoPE where only some models have it shows in its sections."""
    sections = header.metadata.get(f"{name}.rope.dimension_sections")
    if rules.m_rope_by_sections and isinstance(sections, tuple) and all(sections[:2]):
        return replace(rules.traits, m_rope=True)
    return rules.traits


def _check_names(header: GGUFHeader, n_layer: int) -> None:
    """Every tensor of a block must belong to a layer that there is."""
    for tensor in header.tensors:
        part, _, rest = tensor.name.partition(".")
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


def _layers(
    hparams: HParams, rules: Architecture, n_embd: int, shapes: dict[str, tuple[int, ...]]
) -> tuple[Layer, ...]:
    n_head = hparams.per_layer("attention.head_count")
    if not n_head[0]:
        raise ModelError("bad-value", "attention.head_count is 0: there is no attention", field="attention.head_count")
    n_head_kv = hparams.per_layer("attention.head_count_kv", n_head)
    n_embd_head = n_embd // n_head[0]
    n_embd_head_k = hparams.whole("attention.key_length", n_embd_head or None, low=1)
    n_embd_head_v = hparams.whole("attention.value_length", n_embd_head or None, low=1)
    n_expert = hparams.whole("expert_count", 0, high=MAX_EXPERTS)
    n_expert_used = hparams.per_layer("expert_used_count", 0, high=n_expert)
    n_ff = hparams.per_layer("feed_forward_length", 0)
    n_ff_exp = hparams.whole("expert_feed_forward_length", 0)
    windows = _windows(hparams, rules)
    layers = []
    for il in range(hparams.n_layer):
        if not any(name.startswith(f"blk.{il}.") for name in shapes):
            raise ModelError("missing-tensor", f"layer {il} has no tensors", field=f"blk.{il}")
        experts = n_expert if f"blk.{il}.ffn_gate_inp.weight" in shapes else 0
        layers.append(
            Layer(
                n_head=n_head[il],
                n_head_kv=n_head_kv[il],
                n_embd_head_k=n_embd_head_k,
                n_embd_head_v=n_embd_head_v,
                n_swa=windows[il],
                n_ff=(n_ff_exp or n_ff[il]) if experts else n_ff[il],
                n_expert=experts,
                n_expert_used=n_expert_used[il] if experts else 0,
                n_ff_shexp=shapes.get(f"blk.{il}.ffn_up_shexp.weight", (0, 0))[1] if experts else 0,
                gated_shexp=f"blk.{il}.ffn_gate_inp_shexp.weight" in shapes,
                feed_forward="gated" if experts else _feed_forward(shapes, il, n_ff[il]),
                fused_qkv=f"blk.{il}.attn_qkv.weight" in shapes,
                attn_norm=rules.unnamed_norms or f"blk.{il}.attn_norm.weight" in shapes,
                ffn_norm=rules.unnamed_norms or f"blk.{il}.{rules.ffn_norm}.weight" in shapes,
                turned=rules.has_rope(il, windows) or f"blk.{il}.attn_q_norm.weight" in shapes,
            )
        )
    _refuse_odd_norms(layers, rules)
    return tuple(layers)


def _refuse_odd_norms(layers: list[Layer], rules: Architecture) -> None:
    """A block that norms one input and not the other is wired in a way that is not modelled."""
    if rules.traits.parallel is None and any(layer.attn_norm != layer.ffn_norm for layer in layers):
        message = "attention and feed-forward of a layer are not normed alike: how it is wired is not modelled"
        raise ModelError("unknown-layout", message, field="model")


def _feed_forward(shapes: dict[str, tuple[int, ...]], il: int, n_ff: int) -> Literal["gated", "fused", "plain"]:
    if f"blk.{il}.ffn_gate.weight" in shapes:
        return "gated"
    up = shapes.get(f"blk.{il}.ffn_up.weight", (0, 0))
    return "fused" if up[1] == 2 * n_ff else "plain"


def _windows(hparams: HParams, rules: Architecture) -> tuple[int, ...]:
    """The window of each layer: an array in the file wins, then a period, then the architecture's own period."""
    window = rules.window
    n_swa = hparams.whole("attention.sliding_window", window.default or 0) if window else 0
    if not window or not n_swa or window.n_layer not in (None, hparams.n_layer):
        return (0,) * hparams.n_layer
    pattern = hparams.flags("attention.sliding_window_pattern")
    if pattern is None:
        period = hparams.whole("attention.sliding_window_pattern", window.period)
        pattern = tuple(window.covers(il, period) for il in range(hparams.n_layer))
    return tuple(n_swa if windowed else 0 for windowed in pattern)
