"""Which tensors a format narrows, and what they take."""

from __future__ import annotations

import pytest

from estimator.engines.packing import Packing
from estimator.engines.weights import BF16, WeightFormat, beside_text, format_of, nearest_format, role, stored
from estimator.ggml import ElementType
from estimator.model import Checkpoint, Tensor
from estimator.sources.catalogue import catalogue_model, full_precision
from tests.estimator import samples

AWQ = WeightFormat("awq", "AWQ", Packing(4, 128, 20))
FP8 = WeightFormat("fp8", "fp8", Packing(8))
MXFP4 = WeightFormat("mxfp4", "MXFP4", Packing(4, 32, 8), frozenset({"expert"}), file_types=("MXFP4_MOE",))
FORMATS = (BF16, FP8, AWQ, MXFP4)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("token_embd.weight", (4096, 1024), "embedding"),
        ("per_layer_token_embd.weight", (256, 1024), "embedding"),
        ("position_embd.weight", (4096, 1024), "other"),
        ("output.weight", (4096, 1024), "output"),
        ("output_norm.weight", (4096,), "other"),
        ("blk.0.attn_q.weight", (4096, 4096), "matrix"),
        ("blk.0.attn_q.bias", (4096,), "other"),
        ("blk.0.attn_norm.weight", (4096,), "other"),
        ("blk.0.attn_k_b.weight", (128, 512, 16), "matrix"),
        ("blk.0.ffn_gate_inp.weight", (4096, 64), "other"),
        ("blk.0.ffn_gate_exps.weight", (4096, 1024, 64), "expert"),
        ("blk.0.ffn_gate_shexp.weight", (4096, 1024), "matrix"),
        ("blk.0.ssm_conv1d.weight", (4, 8192), "other"),
        ("blk.0.ssm_out.weight", (4096, 4096), "matrix"),
    ],
)
def test_roles(name: str, shape: tuple[int, ...], expected: str) -> None:
    assert role(samples.model(samples.layer()), Tensor(name, shape, ElementType.F16)) == expected


def test_what_is_not_narrowed_takes_two_bytes() -> None:
    model = samples.model(samples.layer(), samples.layer())
    parts = {part.role: part.bytes for part in stored(model, AWQ)}
    assert parts == {"embedding": 2 * 2**22, "output": 2 * 2**22, "matrix": 2 * 128 * (4096 * 4 + 32 * 20) // 8}


@pytest.mark.parametrize(
    ("id", "parameters"),
    [("llama-3.1-8b-instruct", 8_030_261_312), ("qwen3-0.6b", 596_049_920), ("qwen3-30b-a3b", 30_532_122_624)],
)
def test_two_bytes_a_parameter(id: str, parameters: int) -> None:
    """As the checkpoints weigh, but for the frequencies of RoPE that a converter writes."""
    total = sum(part.bytes for part in stored(full_precision(id), BF16))
    assert abs(total - 2 * parameters) <= 256


@pytest.mark.parametrize(
    ("id", "quantization", "expected"),
    [
        ("llama-3.1-8b-instruct", "Q4_K_M", "awq"),
        ("llama-3.1-8b-instruct", "Q8_0", "fp8"),
        ("llama-3.1-8b-instruct", "BF16", "bf16"),
        ("qwen3-30b-a3b", "Q4_K_M", "awq"),
        ("qwen3-30b-a3b", "Q8_0", "fp8"),
        ("gpt-oss-20b", "MXFP4_MOE", "mxfp4"),
        ("gpt-oss-20b", "Q4_K_M", "awq"),
    ],
)
def test_the_nearest_format(id: str, quantization: str, expected: str) -> None:
    assert nearest_format(FORMATS, catalogue_model(id, quantization)).id == expected


def test_formats_by_name() -> None:
    assert format_of(FORMATS, "fp8") is FP8
    assert format_of(FORMATS, "exl3") is None


def test_encoders_are_what_the_text_lacks() -> None:
    model = samples.model(samples.layer())
    assert beside_text(model) == 0
    parameters = model.parameters + 1000
    assert beside_text(samples.model(samples.layer(), checkpoint=Checkpoint(parameters))) == 1000
