"""Encoders, models with one and others that only tiny models show: what their layers read beside the shared keys."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.errors import ModelError, SettingsError
from estimator.ggml import ElementType
from estimator.memory.context import resolve
from estimator.memory.weights import weights
from estimator.mixers import AltUp
from estimator.model import Model, Tensor
from estimator.settings import Settings
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader


def read(name: str, *tensors: str, **keys: Any) -> Model:
    """A model of two layers with these tensors, ``*`` for each layer, of 256 f32 elements."""
    known = {"block_count": 2, "context_length": 512, "embedding_length": 256, "attention.head_count": 4}
    metadata = {f"{name}.{key.replace('__', '.')}": value for key, value in {**known, **keys}.items()}
    names = [tensor.replace("*", str(il)) for tensor in tensors for il in (range(2) if "*" in tensor else (0,))]
    found = [Tensor("token_embd.weight", (256, 10), ElementType.F16)]
    found += [Tensor(name, (256,), ElementType.F32) for name in names]
    return model_from_header(
        GGUFHeader(3, True, 32, {"general.architecture": name, **metadata}, {}, tuple(found), 0),
    )


def test_which_layers_of_jina_norm_attention_twice() -> None:
    found = read("jina-bert-v2", "blk.*.attn_q.weight", "blk.1.attn_norm_2.weight")
    assert [layer.wiring for layer in found.layers] == ["post_norm", "post_norm_twice"]


def test_modern_bert_has_windows_and_no_norm_before_the_first_layer() -> None:
    names = ("blk.*.ffn_norm.weight", "blk.1.attn_norm.weight")
    found = read("modern-bert", *names, attention__sliding_window=128)
    assert [(layer.n_swa, layer.attn_norm, layer.ffn_norm) for layer in found.layers] == [
        (0, False, True),
        (128, True, True),
    ]
    assert not found.has_tied_output


def test_the_head_of_a_decision_model_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        read("modern-bert", "blk.*.ffn_norm.weight", decision__block_count=1)
    assert (caught.value.code, caught.value.field) == ("unknown-layout", "decision.block_count")


def test_experts_without_a_gate() -> None:
    metadata = {"expert_count": 8, "expert_used_count": 2, "feed_forward_length": 320}
    found = read(
        "nomic-bert-moe", "blk.*.attn_q.weight", "blk.1.ffn_gate_inp.weight", "blk.1.ffn_up_exps.weight", **metadata
    )
    assert [(layer.n_expert, layer.feed_forward) for layer in found.layers] == [(0, "plain"), (8, "plain")]


def t5(**keys: Any) -> Model:
    names = ("enc.blk.*.attn_q.weight", "dec.blk.*.attn_q.weight", "dec.blk.0.attn_rel_b.weight")
    return read("t5", *names, "enc.output_norm.weight", "dec.output_norm.weight", **keys)


def test_t5_reads_its_decoder() -> None:
    found = t5()
    assert [(layer.wiring, layer.own_position_bias) for layer in found.layers] == [
        ("decoder", True),
        ("decoder", False),
    ]
    # a layer holds a block of both stacks
    assert weights(found, "generic").layers == (3 * 1024, 2 * 1024)
    assert weights(found, "generic").output == 2 * 1024


def test_what_no_operation_reads_is_not_loaded() -> None:
    found = read("t5", "dec.blk.*.attn_q.weight", "dec.blk.0.cross_attn_rel_b.weight")
    assert weights(found, "generic").layers == (1024, 1024)


def test_a_decoder_of_another_length_is_refused() -> None:
    assert t5(decoder_block_count=2).n_layer == 2
    with pytest.raises(ModelError) as caught:
        t5(decoder_block_count=3)
    assert (caught.value.code, caught.value.field) == ("unknown-layout", "decoder_block_count")


def test_t5_needs_one_stream() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(t5(), Settings(n_ctx=1024, n_parallel=4, kv_unified=False))
    assert (caught.value.code, caught.value.field) == ("one-stream-only", "kv_unified")
    assert resolve(t5(), Settings(n_ctx=1024, n_parallel=4, kv_unified=True)).n_stream == 1


def test_every_row_of_a_model_with_an_encoder_may_be_wanted() -> None:
    assert resolve(t5(), Settings(n_ctx=1024, n_parallel=1, n_outputs=1)).n_outputs == 512


def test_gemma_3n_keeps_20_caches() -> None:
    names = ("blk.*.attn_norm.weight", "blk.*.ffn_norm.weight", *(f"blk.{il}.attn_norm.weight" for il in range(2, 22)))
    names += tuple(f"blk.{il}.ffn_norm.weight" for il in range(2, 22))
    found = read("gemma3n", *names, block_count=22, attention__sliding_window=512)
    assert [layer.own_cache for layer in found.layers] == [True] * 20 + [False] * 2
    assert [layer.mixer.sparse for layer in found.layers if isinstance(layer.mixer, AltUp)][8:12] == [
        True,
        True,
        False,
        False,
    ]
    assert [layer.n_swa for layer in found.layers[:5]] == [512] * 4 + [0]


def test_gemma_3n_with_other_dimensions_is_refused() -> None:
    names = ("blk.*.attn_norm.weight", "blk.*.ffn_norm.weight", "blk.*.inp_gate.weight")
    assert read("gemma3n", *names).layers[0].n_embd_per_layer == 256
    metadata = {"gemma3n.block_count": 1, "gemma3n.context_length": 1, "gemma3n.embedding_length": 128}
    tensors = tuple(
        Tensor(name, shape, ElementType.F32)
        for name, shape in {"token_embd.weight": (128, 4), "blk.0.inp_gate.weight": (128, 64)}.items()
    )
    header = GGUFHeader(
        3, True, 32, {"general.architecture": "gemma3n", "gemma3n.attention.head_count": 2, **metadata}, {}, tensors, 0
    )
    with pytest.raises(ModelError) as caught:
        model_from_header(header)
    assert (caught.value.code, caught.value.field) == ("bad-shape", "blk.0.inp_gate.weight")


@pytest.mark.parametrize(("after", "wiring"), [(True, "chained"), (False, "sequential")])
def test_the_norms_of_chameleon(after: bool, wiring: str) -> None:
    found = read("chameleon", "blk.*.attn_norm.weight", "blk.*.ffn_norm.weight", swin_norm=after)
    assert {layer.wiring for layer in found.layers} == {wiring}


def test_bitnet_norms_what_attention_gave() -> None:
    found = read("bitnet", "blk.*.attn_norm.weight", "blk.*.ffn_norm.weight", "blk.1.attn_sub_norm.weight")
    assert [layer.sub_norm for layer in found.layers] == [False, True]
    assert not found.has_tied_output


def step35(**keys: Any) -> Model:
    names = ("blk.*.attn_norm.weight", "blk.*.ffn_norm.weight")
    windows = {"attention__sliding_window": 512, "attention__sliding_window_pattern": (False, True)}
    return read("step35", *names, *keys.pop("more", ()), **windows, **keys)


def test_which_layers_of_step_are_clamped() -> None:
    found = step35(swiglu_clamp_exp=(0.0, 7.0), swiglu_clamp_shexp=(1e-7, 16))
    assert [(layer.activation, layer.activation_exps) for layer in found.layers] == [("fused",) * 2, ("clamped",) * 2]
    assert all(layer.activation_exps == "clamped" for layer in step35(swiglu_clamp_exp=7.0).layers)
    assert not any(layer.activation == "clamped" for layer in step35().layers)


@pytest.mark.parametrize(
    ("value", "code"), [((7.0,), "bad-array-length"), ((7.0, "7"), "bad-value"), (True, "bad-value")]
)
def test_bad_clamps(value: object, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        step35(swiglu_clamp_exp=value)
    assert (caught.value.code, caught.value.field) == (code, "step35.swiglu_clamp_exp")


def test_what_step_loads_of_layers_that_predict_further_tokens() -> None:
    more = ("blk.1.ffn_up.weight", "blk.1.nextn.eh_proj.weight", "blk.1.nextn.shared_head_norm.weight")
    found = step35(more=more, nextn_predict_layers=1)
    assert (found.n_layer, found.n_layer_all) == (1, 2)
    # not its norms and the projection, but what the loader does not call required
    assert weights(found, "generic").layers == (2 * 1024, 2 * 1024)
