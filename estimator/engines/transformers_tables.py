"""Transformers' tables: caches of ``generate``, formats that it loads, its options, and what it refuses (5.23.0)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from estimator.engines.checkpoint import refuse_unknown, words
from estimator.engines.layout import layout
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.weights import BF16, MXFP4, Role, WeightFormat
from estimator.errors import SettingsError

if TYPE_CHECKING:
    from estimator.engines.base import Job

Backend = Literal["", "fp8", "hqq", "quanto"]

NAME: Final = "Transformers 5.23.0"

GROUP: Final = 64
"""The default of ``q_group_size`` (cache_utils.py:798)."""

SCALE_AND_ZERO: Final = 32
"""Bits that a group shares: scale and zero point in the model's type (quanto's affine optimizer, hqq quantize.py)."""


def grouped(bits: int, group: int, backend: Backend) -> Packing:
    """Elements of a cache in groups. HQQ packs ten of three bits into four bytes (hqq bitpack.py:69)."""
    stored: int | Fraction = bits
    if backend == "hqq" and bits == 3:
        stored = Fraction(-(-group // 10) * 32, group)
    return Packing(stored, group, SCALE_AND_ZERO)


def _narrow(backend: Backend, bits: int, aliases: tuple[str, ...] = ()) -> CacheType:
    packing = grouped(bits, GROUP, backend)
    label = {"hqq": "HQQ", "quanto": "Quanto"}[backend]
    return cache_type(f"{backend}-{bits}", f"{label} {bits}-bit, groups of {GROUP}", packing, aliases)


CACHE_TYPES: Final = (
    cache_type(
        "16bit", "16-bit", F16, ("f16", "bf16", "float16", "bfloat16"), "the type that the model is computed in"
    ),
    cache_type("fp8", "fp8 (e4m3)", Packing(8), ("fp8_e4m3",), "one scale for a tensor, fixed by the first prompt"),
    _narrow("hqq", 8, ("q8_0",)),
    _narrow("quanto", 4, ("q4_0",)),
    _narrow("hqq", 4),
    _narrow("hqq", 3),
    _narrow("quanto", 2),
    _narrow("hqq", 2),
    _narrow("hqq", 1),
)
"""Caches at 16 bits and the three backends of ``QuantizedCache`` (cache_utils.py:854-1033 and 2113-2196)."""

LINEAR: Final[frozenset[Role]] = frozenset({"matrix"})
"""What bitsandbytes and HQQ narrow as it loads: linear layers of the trunk. Embedding and output matrix stay, and so do
experts: they are one tensor of three dimensions, no linear layers (models/deepseek_v2/modeling_deepseek_v2.py:46)."""

WEIGHT_FORMATS: Final = (
    BF16,
    WeightFormat("int8", "bitsandbytes 8-bit", Packing(8, 0, 32), LINEAR, "bitsandbytes", "a scale for each row"),
    WeightFormat(
        "nf4",
        "bitsandbytes 4-bit (nf4)",
        Packing(4, 64, 32),
        LINEAR,
        "bitsandbytes",
        "a scale of four bytes for each 64",
    ),
    WeightFormat("hqq4", "HQQ 4-bit, groups of 64", Packing(4, 64, 32), LINEAR, "hqq"),
    MXFP4,
)
OPTIONS: Final = (
    Option(
        name="cache_implementation",
        label="Cache",
        kind="choice",
        default="dynamic",
        flag="cache_implementation",
        choices=("dynamic", "static", "offloaded", "offloaded_static"),
        summary="dynamic grows with the tokens, static is there at once, offloaded ones are in system memory",
    ),
    Option(
        name="attn_implementation",
        label="Attention",
        kind="choice",
        default="sdpa",
        flag="attn_implementation",
        choices=("sdpa", "flash_attention_2", "eager"),
        summary="sdpa holds a mask of a chunk and the context for windows and batches, eager all scores",
    ),
    Option(
        name="q_group_size",
        label="Group of a quantized cache",
        kind="choice",
        default=str(GROUP),
        flag="q_group_size",
        choices=("32", "64", "128"),
        summary="elements that share a scale and a zero point of two bytes each",
    ),
    Option(
        name="residual_length",
        label="Tokens that are not quantized yet",
        kind="whole",
        default=128,
        flag="residual_length",
        low=1,
        high=65536,
        summary="generated tokens stay at 16 bits until there are so many; a prompt is quantized at once",
    ),
)

ARCHITECTURES: Final = words(
    """
    afmoe apertus arcee bitnet bloom chatglm cohere2 command-r dbrx deepseek2 deepseek32 dots1 ernie4_5 ernie4_5-moe
    exaone-moe exaone4 falcon falcon-h1 gemma gemma2 gemma3 gemma3n gemma4 glm-dsa glm4 glm4moe gpt-oss gpt2 gptj
    gptneox granite granite_swa granitehybrid granitemoe hunyuan-dense hunyuan-moe hy_v3 hy_v4 jais2 jamba kimi-linear
    laguna lfm2 lfm2moe llama llama4 mamba mamba2 mellum mimo2 minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3
    mistral4 mpt muse-glimmer nemotron nemotron_h nemotron_h_moe olmo olmo2 olmoe phi2 phi3 phimoe qwen2 qwen2moe
    qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3vl qwen3vlmoe seed_oss smollm3 stablelm starcoder
    starcoder2
    """
)
"""llama.cpp's names of what has classes in transformers/models. What the scores of an indexer take was not read
(models/deepseek_v32): ``refuse`` says so."""


def backend(kind: CacheType) -> Backend:
    """What quantizes a cache of a type; empty at 16 bits."""
    for name in ("fp8", "hqq", "quanto"):
        if kind.id.startswith(name):
            return name
    return ""


def bits(kind: CacheType) -> int:
    """The bits of a type of a grouping backend (``nbits``)."""
    return int(kind.id.rpartition("-")[2])


def packing(job: Job) -> Packing:
    """How elements of K and V are stored."""
    name = backend(job.type_k)
    if name in ("", "fp8"):
        return job.type_k.k
    return grouped(bits(job.type_k), int(str(job.options["q_group_size"])), name)


def refuse(job: Job) -> None:
    """What Transformers does not run.

    Raises:
        SettingsError: it fails, or what it would allocate is not known.
    """
    refuse_unknown(job, NAME, ARCHITECTURES)
    layers = layout(job.model)
    if any(cached.n_indexer for cached in layers):
        message = f"what the indexer of {job.model.architecture} computes in {NAME} is not known"
        raise SettingsError("not-modelled", message, field="engine")
    if not backend(job.type_k):
        return
    chosen = str(job.options["cache_implementation"])
    if chosen != "dynamic":
        message = f"cache_implementation is {chosen}, but a cache of {job.type_k.id} is an implementation of its own"
        raise SettingsError("one-cache", message, field="cache_implementation", allowed=("dynamic",))
    if any(cached.attention == "none" or cached.window or cached.is_recurrent for cached in layers):
        message = (
            f"cache_type_k is {job.type_k.id}, but QuantizedCache is for models whose layers all attend to the whole "
            f"context; {job.model.name} has others (cache_utils.py:2189)"
        )
        raise SettingsError("cache-not-quantizable", message, field="cache_type_k", allowed=("16bit",))
