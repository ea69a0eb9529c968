"""Headers become models: what is read, and what is refused by name."""

from __future__ import annotations

import io
import lzma
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gguf.constants import GGUFValueType

import estimator as fathom
from estimator.errors import ModelError
from estimator.ggml import pad
from estimator.layer import Layer
from estimator.sources.architectures import ARCHITECTURES
from estimator.traits import Traits
from tests.estimator.sources.gguf_bytes import LE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.model import Model

DATA = Path(__file__).parents[2] / "data" / "gguf"
GENERIC = fathom.device("generic")
I32, BOOL, F32 = GGUFValueType.INT32, GGUFValueType.BOOL, GGUFValueType.FLOAT32

LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 512,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}
TENSORS: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (256, 100),
    **{f"blk.{il}.{norm}.weight": (256,) for il in range(2) for norm in ("attn_norm", "ffn_norm")},
}


def pair(key: str, value: Any) -> bytes:
    """A key with the value type that suits the value."""
    match value:
        case str():
            return LE.text(key, value)
        case bool():
            return LE.number(key, value, BOOL)
        case float():
            return LE.number(key, value, F32)
        case int():
            return LE.number(key, value, I32 if value < 0 else GGUFValueType.UINT64)
        case [bool(), *_]:
            return LE.numbers(key, BOOL, value)
        case _:
            return LE.numbers(key, I32, value)


def header(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]] = TENSORS) -> bytes:
    described, offset = [], 0
    for name, shape in tensors.items():
        described.append(LE.tensor(name, shape, offset=offset))
        offset += pad(4 * math.prod(shape), 32)
    return LE.header([pair(key, value) for key, value in metadata.items() if value is not None], described)


def model(tensors: Mapping[str, tuple[int, ...]] = TENSORS, /, **changes: Any) -> Model:
    """A llama of two layers; ``changes`` are keys without the architecture, ``__`` for a dot, None to leave one out."""
    named = {f"llama.{key.replace('__', '.')}": value for key, value in changes.items()}
    return fathom.read_gguf(header({**LLAMA, **named}, tensors))


# --- real headers


@pytest.fixture(scope="session")
def gemma_3_270m() -> Model:
    """A released file, with its tokenizer of 262,144 tokens."""
    return fathom.read_gguf(lzma.decompress((DATA / "gemma-3-270m.header.gguf.xz").read_bytes()))


def test_a_released_file(gemma_3_270m: Model) -> None:
    found = gemma_3_270m
    assert (found.architecture, found.context_length, found.n_embd, found.n_vocab) == ("gemma3", 32768, 640, 262144)
    assert found.weights_bytes == 246_587_904
    assert found.parameters == 268_098_176
    assert found.has_tied_output
    assert found.traits == Traits(scaled_embedding_rows=True)
    assert [layer.n_swa for layer in found.layers] == ([512] * 5 + [0]) * 3
    assert {(layer.n_head, layer.n_head_kv, layer.n_embd_head_k, layer.n_ff) for layer in found.layers} == {
        (4, 1, 256, 2048)
    }


def test_the_cache_of_a_released_file(gemma_3_270m: Model) -> None:
    found = fathom.estimate(gemma_3_270m, fathom.Settings(n_ctx=8192, n_parallel=1), [GENERIC])
    assert found.devices[0].kv_cache == 40_894_464


TINY = {"n_head": 2, "n_head_kv": 2, "n_embd_head_k": 128, "n_embd_head_v": 128, "n_ff": 384}


@pytest.mark.parametrize(
    ("name", "architecture", "parameters", "windows", "facts"),
    [
        ("llama-dense", "llama", 1_185_116, (0, 0), {}),
        ("gemma3-dense", "gemma3", 1_184_028, (32, 0), {}),
        (
            "qwen3moe-moe",
            "qwen3moe",
            1_773_864,
            (0, 0),
            {"n_expert": 2, "n_expert_used": 2, "expert_factors": ("gate", "up", "down")},
        ),
        ("gpt-oss-moe", "gpt-oss", 1_777_968, (32, 0), {"n_expert": 2, "n_expert_used": 2, "sinks": True}),
    ],
)
def test_tiny_files(
    name: str, architecture: str, parameters: int, windows: tuple[int, ...], facts: dict[str, Any]
) -> None:
    path = DATA / f"{name}.gguf"
    found = fathom.read_gguf(path)
    assert (found.architecture, found.context_length, found.n_embd, found.n_vocab) == (architecture, 256, 256, 128)
    assert (found.parameters, found.weights_bytes) == (parameters, sum(tensor.n_bytes for tensor in found.tensors))
    assert found.layers == tuple(Layer(**{**TINY, **facts, "n_swa": window}) for window in windows)
    assert found.file_type is None
    for source in (path.read_bytes(), str(path), io.BytesIO(path.read_bytes())):
        assert fathom.read_gguf(source).layers == found.layers


# --- what is read


def test_a_header_made_by_hand() -> None:
    found = model()
    shape: dict[str, Any] = {
        "n_head": 4,
        "n_head_kv": 2,
        "n_embd_head_k": 64,
        "n_embd_head_v": 64,
        "n_swa": 0,
        "n_ff": 512,
    }
    assert found.layers == (Layer(**shape, feed_forward="plain"),) * 2
    assert (found.n_vocab, found.name, found.file_type) == (100, "llama", None)
    assert found.has_tied_output


def test_name_and_file_type() -> None:
    found = fathom.read_gguf(header({**LLAMA, "general.name": "Ours", "general.file_type": 15}))
    assert (found.name, found.file_type) == ("Ours", "Q4_K_M")
    odd = fathom.read_gguf(header({**LLAMA, "general.name": 7, "general.file_type": "Q4_K_M"}))
    assert (odd.name, odd.file_type) == ("llama", None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attention__head_count_kv": None}, {"n_head_kv": (4, 4)}),
        ({"attention__head_count_kv": [2, 0]}, {"n_head_kv": (2, 0)}),
        ({"attention__head_count": [4, 8], "attention__head_count_kv": None}, {"n_head_kv": (4, 8), "n_head": (4, 8)}),
        ({"attention__key_length": 192}, {"n_embd_head_k": (192, 192), "n_embd_head_v": (64, 64)}),
        ({"attention__value_length": 32}, {"n_embd_head_k": (64, 64), "n_embd_head_v": (32, 32)}),
        ({"attention__head_count": 8}, {"n_embd_head_k": (32, 32)}),
        ({"feed_forward_length": [512, 1024]}, {"n_ff": (512, 1024)}),
        ({"feed_forward_length": None}, {"n_ff": (0, 0)}),
        # this loader ignores windows
        ({"attention__sliding_window": 1024}, {"n_swa": (0, 0)}),
        # experts need a router
        ({"expert_count": 8, "expert_used_count": 2}, {"n_expert": (0, 0), "n_expert_used": (0, 0)}),
    ],
)
def test_keys(changes: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    found = model(**changes)
    for fact, values in expected.items():
        assert tuple(getattr(layer, fact) for layer in found.layers) == values, fact


def test_tensors_tell_experts_and_fused_matrices() -> None:
    tensors = {
        **TENSORS,
        "blk.0.ffn_gate_inp.weight": (256, 8),
        "blk.0.attn_qkv.weight": (256, 512),
        "blk.1.ffn_gate.weight": (256, 512),
    }
    experts = {"expert_count": 8, "expert_used_count": 2}
    first, second = model(tensors, **experts, expert_feed_forward_length=128).layers
    assert (first.n_expert, first.n_expert_used, first.n_ff) == (8, 2, 128)
    assert (second.n_expert, second.n_expert_used, second.n_ff) == (0, 0, 512)
    assert (first.fused_qkv, second.fused_qkv) == (True, False)
    assert (first.feed_forward, second.feed_forward) == ("gated", "gated")
    assert model(tensors, **experts).layers[0].n_ff == 512


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        *(
            ({key: None}, "missing-key", key)
            for key in ("block_count", "context_length", "embedding_length", "attention__head_count")
        ),
        ({"block_count": 0}, "bad-value", "block_count"),
        ({"block_count": 513}, "bad-value", "block_count"),
        ({"block_count": 2**31}, "bad-value", "block_count"),
        ({"block_count": 2**63}, "bad-value", "block_count"),
        ({"block_count": -1}, "bad-value", "block_count"),
        ({"block_count": 2.0}, "bad-value", "block_count"),
        ({"block_count": "2"}, "bad-value", "block_count"),
        ({"block_count": True}, "bad-value", "block_count"),
        ({"block_count": [2, 2]}, "bad-value", "block_count"),
        ({"context_length": 0}, "bad-value", "context_length"),
        ({"context_length": 2**40}, "bad-value", "context_length"),
        ({"embedding_length": 0}, "bad-value", "embedding_length"),
        ({"embedding_length": 2**32}, "bad-value", "embedding_length"),
        ({"attention__head_count": 0}, "bad-value", "attention__head_count"),
        ({"attention__head_count": -4}, "bad-value", "attention__head_count"),
        ({"attention__head_count": [0, 4]}, "bad-value", "attention__head_count"),
        ({"attention__head_count": [4, -4]}, "bad-value", "attention__head_count"),
        ({"attention__head_count": [4, 4, 4]}, "bad-array-length", "attention__head_count"),
        ({"attention__head_count_kv": [2]}, "bad-array-length", "attention__head_count_kv"),
        ({"attention__head_count_kv": 2**40}, "bad-value", "attention__head_count_kv"),
        ({"attention__key_length": -64}, "bad-value", "attention__key_length"),
        ({"attention__value_length": 2**29}, "bad-value", "attention__value_length"),
        ({"feed_forward_length": [True, True]}, "bad-value", "feed_forward_length"),
        ({"feed_forward_length": [512] * 3}, "bad-array-length", "feed_forward_length"),
        ({"expert_count": 4097}, "bad-value", "expert_count"),
        ({"expert_used_count": [1]}, "bad-array-length", "expert_used_count"),
        ({"expert_count": 8, "expert_used_count": 9}, "bad-value", "expert_used_count"),
        ({"expert_count": 8, "expert_used_count": 2**28}, "bad-value", "expert_used_count"),
        ({"attention__key_length": 0}, "bad-value", "attention__key_length"),
        ({"expert_feed_forward_length": 0.5}, "bad-value", "expert_feed_forward_length"),
    ],
)
def test_bad_keys(changes: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(ModelError) as caught:
        model(**changes)
    name = field.replace("__", ".")
    assert caught.value.code == code
    assert caught.value.field in (name, f"llama.{name}")
    assert name in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("value", [None, 5, True])
def test_no_architecture(value: object) -> None:
    with pytest.raises(ModelError) as caught:
        fathom.read_gguf(header({**LLAMA, "general.architecture": value}))
    assert (caught.value.code, caught.value.field) == ("missing-key", "general.architecture")


@pytest.mark.parametrize("name", ["mamba9", "Llama", "", "x" * 10_000, "<script>"])
def test_an_unknown_architecture_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        fathom.read_gguf(header({**LLAMA, "general.architecture": name}))
    error = caught.value
    assert (error.code, error.allowed) == ("unknown-architecture", tuple(ARCHITECTURES))
    assert repr(name[:64]) in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "shape", [None, (256,), (128, 100), (256, 100, 2)], ids=["none", "vector", "other width", "three dimensions"]
)
def test_bad_embedding(shape: tuple[int, ...] | None) -> None:
    tensors = {name: shape if "token" in name else known for name, known in TENSORS.items()}
    with pytest.raises(ModelError) as caught:
        model({name: known for name, known in tensors.items() if known})
    assert (caught.value.code, caught.value.field) == ("bad-embedding", "token_embd.weight")
    assert "256" in caught.value.message


def test_heads_without_width() -> None:
    with pytest.raises(ModelError) as caught:
        model(attention__head_count=512)
    assert caught.value.code == "missing-key"


@pytest.mark.parametrize("name", ["blk.2.ffn_up.weight", "blk.-1.x", "blk.x.y", "blk", "blk.", "blk.1e0.x", "blk.٣.x"])
def test_a_tensor_of_no_layer(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        model({**TENSORS, name: (256,)})
    assert caught.value.code == "unknown-tensor"


def test_a_layer_without_tensors() -> None:
    with pytest.raises(ModelError) as caught:
        model(block_count=3)
    assert (caught.value.code, caught.value.field) == ("missing-tensor", "blk.2")
