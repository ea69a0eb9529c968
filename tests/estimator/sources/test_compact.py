"""A packed header holds all that memory follows from, and little else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from estimator.ggml import ElementType
from estimator.model import Tensor
from estimator.sources.compact import pack, unpack
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADERS = sorted((Path(__file__).parents[2] / "data" / "gguf").glob("*.gguf"))
T = ElementType


def header_of(tensors: Sequence[Tensor], **metadata: Any) -> GGUFHeader:
    known = {"general.architecture": "llama", "llama.block_count": 3, **metadata}
    return GGUFHeader(3, True, 32, known, {}, tuple(tensors), 0)


def in_json(packed: dict[str, Any]) -> dict[str, Any]:
    """What comes back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(packed))
    return found


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_the_model_is_the_same(path: Path) -> None:
    header = read_header(path)
    packed = in_json(pack(header))
    before, after = model_from_header(header), model_from_header(unpack(packed))
    assert after.layers == before.layers
    assert set(after.tensors) == set(before.tensors)
    assert len(after.tensors) == len(before.tensors)
    for fact in ("architecture", "name", "context_length", "n_embd", "n_vocab", "file_type", "traits"):
        assert getattr(after, fact) == getattr(before, fact)
    assert in_json(pack(unpack(packed))) == packed


def test_there_are_headers_to_pack() -> None:
    assert len(HEADERS) == 4


def test_equal_tensors_of_all_layers_are_written_once() -> None:
    packed = pack(
        header_of(
            [
                Tensor("token_embd.weight", (64, 100), T.Q8_0),
                *(Tensor(f"blk.{il}.attn_q.weight", (64, 64), T.BF16) for il in range(3)),
                *(Tensor(f"blk.{il}.attn_v.weight", (64, 64), T.Q6_K if il == 1 else T.Q4_K) for il in range(3)),
                Tensor("blk.2.blk.0.weight", (64,), T.F32),
            ]
        )
    )
    assert packed["tensors"] == [
        ["token_embd.weight", "Q8_0", [64, 100]],
        ["blk.*.attn_q.weight", "BF16", [64, 64]],
        ["blk.*.attn_v.weight", "Q4_K", [64, 64], [0, 2]],
        ["blk.*.attn_v.weight", "Q6_K", [64, 64], [1]],
        ["blk.*.blk.0.weight", "F32", [64], [2]],
    ]
    names = [tensor.name for tensor in unpack(packed).tensors]
    assert sorted(names) == sorted(
        [
            "token_embd.weight",
            *(f"blk.{il}.attn_{side}.weight" for il in range(3) for side in "qv"),
            "blk.2.blk.0.weight",
        ]
    )


def test_keys_that_no_byte_depends_on_are_left_out() -> None:
    kept = {
        "general.name": "Ours",
        "general.file_type": 15,
        "llama.context_length": 4096,
        "llama.attention.head_count_kv": (8, 4, 8),
        "llama.attention.sliding_window": 512,
        "llama.expert_weights_scale": 2.5,
        "llama.attention.temperature_scale": 0.1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.embedding_scale": 12.0,
        "llama.rope.scaling.finetuned": False,
    }
    left_out = {
        "general.author": "somebody",
        "general.basename": "ours",
        "tokenizer.ggml.model": "gpt2",
        "llama.rope.freq_base": 1e6,
        "llama.attention.layer_norm_epsilon": 1e-5,
        "gemma2.final_logit_softcapping": 30.0,
        "llama.residual_scale": 1.0,
    }
    header = header_of([], **kept, **left_out)
    packed = pack(header)
    assert packed["metadata"] == {"general.architecture": "llama", "llama.block_count": 3, **kept}
    assert unpack(in_json(packed)).metadata == packed["metadata"]
