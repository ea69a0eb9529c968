"""Who published what: every figure of ``docs/published-figures.md``, and how ours is counted."""

from __future__ import annotations

from functools import partial
from typing import Final

from estimator.engines.packing import F16, Packing
from tests.published.counting import GIB, KIB, MIB, cache, plain, total
from tests.published.rows import Row, Section

LLAMA: Final = "llama-3.1-8b-instruct"
LLAMA_70B: Final = "llama-3.1-70b-instruct"
LLAMA_405B: Final = "meta-llama-3.1-405b"
MHA: Final = "llama-2-7b-hf"
"""32 layers of 32 heads of 128, each with K and V of its own: as LLaMA 7B and InternLM 7B."""
DEEPSEEK: Final = "deepseek-v3"
QWEN_4B: Final = "qwen3-4b"
QWEN_235B: Final = "qwen3-235b-a22b"
COGITO: Final = "qwen2.5-32b-instruct"
"""Cogito v1 preview 32B is a tuned Qwen 2.5 32B."""

K128: Final = 131_072
K32: Final = 32_768
TYPES: Final = ("f16", "q8_0", "q4_0")

FP8: Final = Packing(8)
MLX_4BIT: Final = Packing(4, 64, 32)
"""Groups of 64 with a scale and a bias of two bytes (mlx-lm 0.32.2, models/cache.py, QuantizedKVCache)."""
EXL3_4BIT: Final = Packing(4, 32, 16)
EXL3_8BIT: Final = Packing(8, 32, 16)
"""Groups of 32 with a scale of two bytes (ExLlamaV3 1.6.5, cache/quant.py:33-41)."""
LMDEPLOY_INT8: Final = Packing(8, 0, 32)
"""Scale and zero point of two bytes for each token and head (LMDeploy 0.16.0, kernels/attention/block.h:153-183)."""


def _of_qwen(n_ctx: int) -> int:
    """K, or V, of so many tokens on one of four devices."""
    return plain(QWEN_235B, n_ctx, n_devices=4) // 2


def _saved_by_mlx() -> int:
    """What 4 bits save of 1,024 tokens in one of 36 layers."""
    return (plain(QWEN_4B, 1024) - plain(QWEN_4B, 1024, MLX_4BIT)) // 36


def _scores_of_mlx() -> int:
    """Scores of 32 heads, 2,048 rows and 1,024 tokens (mlx-lm 0.32.2, models/base.py)."""
    return 32 * 2048 * 1024 * 2


def _beside_q4(k: Packing, v: Packing) -> int:
    """How much more ExLlamaV3 stores in these types than in 4 bits."""
    return plain(COGITO, 8192, k, v) - plain(COGITO, 8192, EXL3_4BIT)


SECTIONS: Final = (
    Section(
        "Ollama: Llama 3.1 8B in Q4_K_M with 128k tokens",
        tuple(
            Row(f"all of it, K/V in {name}", value, 1, "GB", partial(total, "ollama", LLAMA, K128, name), GIB, False)
            for name, value in zip(TYPES, (23.3, 17.0, 13.8), strict=True)
        ),
    ),
    Section(
        "Ollama: the cache of an 8B model with 32k tokens",
        (
            *(
                Row(f"article, K/V in {name}", value, 0, "GB", partial(cache, "ollama", LLAMA, K32, name), GIB, False)
                for name, value in zip(TYPES, (6, 3, 2), strict=True)
            ),
            Row("pull request, f16", 4, 0, "GB", lambda: cache("ollama", LLAMA, K32, "f16"), GIB),
            Row("pull request, q4_0", 1.1, 1, "GB", lambda: cache("ollama", LLAMA, K32, "q4_0"), GIB),
        ),
    ),
    Section(
        "A model without grouped heads",
        (
            Row("Llama 2 7B, one token, f16", 0.5, 1, "MB", lambda: plain(MHA, 1), MIB),
            Row("Llama 2 7B, 10,000 tokens, f16", 5, 0, "GB", lambda: cache("vllm", MHA, 10_000), GIB),
            Row("LMDeploy, a session of 2,048 tokens, f16", 1030, 0, "MB", lambda: plain(MHA, 2048), MIB, False),
            Row("the same in int8", 516, 0, "MiB", lambda: plain(MHA, 2048, LMDEPLOY_INT8), MIB, False),
        ),
    ),
    Section(
        "Llama 3.1 with 128k tokens in f16",
        (
            Row("8B, 128,000 tokens", 15.62, 2, "GB", lambda: plain(LLAMA, 128_000), GIB),
            Row("70B, 128,000 tokens", 39.06, 2, "GB", lambda: plain(LLAMA_70B, 128_000), GIB),
            Row("405B, 128,000 tokens", 123.05, 2, "GB", lambda: plain(LLAMA_405B, 128_000), GIB, False),
        ),
    ),
    Section(
        "DeepSeek V3: latents",
        (
            Row("32,768 tokens, f16, log", 2196, 2, "MiB", lambda: cache("llama-bench", DEEPSEEK, K32), MIB),
            Row("the same in q8_0, log", 1166.62, 2, "MiB", lambda: cache("llama-bench", DEEPSEEK, K32, "q8_0"), MIB),
            Row("one token, 16 bits", 69, 0, "KiB", lambda: plain(DEEPSEEK, 1), KIB),
            Row("one token of Llama 3 8B, 16 bits", 128, 0, "KiB", lambda: plain(LLAMA, 1), KIB),
        ),
    ),
    Section(
        "vLLM: pools of its logs",
        (
            Row("Qwen3 4B on an L4, 83,488 tokens", 11.47, 2, "GiB", lambda: cache("vllm", QWEN_4B, 83_488), GIB),
            Row("the same, 166,992 in fp8", 11.47, 2, "GiB", lambda: cache("vllm", QWEN_4B, 166_992, "fp8"), GIB),
            Row(
                "Llama 3.1 8B on an RTX 3090, 1,952 blocks",
                3.81,
                2,
                "GiB",
                lambda: cache("vllm", LLAMA, 1952 * 16),
                GIB,
            ),
        ),
    ),
    Section(
        "vLLM and SGLang: Qwen3 235B A22B on four H100",
        (
            Row("SGLang, K of 367,404 tokens, each GPU", 8.23, 2, "GB", lambda: _of_qwen(367_404), GIB),
            Row("SGLang, V of them", 8.23, 2, "GB", lambda: _of_qwen(367_404), GIB),
            Row(
                "vLLM, pool of 178,880 tokens, each GPU",
                8.11,
                2,
                "GiB",
                lambda: cache("vllm", QWEN_235B, 178_880, n_devices=4),
                GIB,
                False,
            ),
        ),
    ),
    Section(
        "MLX: Qwen3 4B in 4 bits",
        (
            Row("saved by a 4-bit cache: a layer, 1,024 tokens", 2.9, 1, "MB", _saved_by_mlx, MIB),
            Row("scores of 2,048 rows: a layer, 1,024 tokens", 130, -1, "MB", _scores_of_mlx, MIB),
            Row("16,384 tokens more, bf16, peak", 2282, 0, "MB", lambda: plain(QWEN_4B, 16_384), MIB, False),
            Row("the same, 4-bit cache", 4233, 0, "MB", lambda: plain(QWEN_4B, 16_384, MLX_4BIT), MIB, False),
        ),
    ),
    Section(
        "Transformers: an fp8 cache",
        (
            Row("Qwen3 4B, 1,024 + 256 tokens, bf16", 175.2, 1, "MiB", lambda: plain(QWEN_4B, 1280), MIB, False),
            Row("the same in fp8", 87.6, 1, "MiB", lambda: plain(QWEN_4B, 1280, FP8), MIB, False),
        ),
    ),
    Section(
        "ExLlamaV3: Cogito 32B with 8,192 tokens",
        (
            Row("q4_q8 beside q4", 17_097 - 16_827, 0, "MiB", lambda: _beside_q4(EXL3_4BIT, EXL3_8BIT), MIB, False),
            Row("16 bits beside q4", 18_665 - 16_827, 0, "MiB", lambda: _beside_q4(F16, F16), MIB, False),
        ),
    ),
)
