"""ExLlamaV3's tables: what ``-cq`` and checkpoints may be, its models, its options, and what it refuses (1.6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Final

from estimator.engines.checkpoint import refuse_unknown, words
from estimator.engines.layout import layout
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.weights import BF16, Role, WeightFormat
from estimator.errors import SettingsError

if TYPE_CHECKING:
    from estimator.engines.base import Job

NAME: Final = "ExLlamaV3 1.6.5"

GROUP: Final = 32
SCALE: Final = 16
"""Elements of a cache that share a scale, and its bits (cache/quant.py:38-40)."""


def _bits(bits: int, aliases: tuple[str, ...] = ()) -> CacheType:
    return cache_type(f"q{bits}", f"{bits}-bit, groups of {GROUP}", Packing(bits, GROUP, SCALE), aliases)


CACHE_TYPES: Final = (
    cache_type("fp16", "16-bit", F16, ("f16", "float16"), "f16 whatever the model is stored in"),
    _bits(8, ("q8_0",)),
    _bits(7),
    _bits(6),
    _bits(5, ("q5_0",)),
    _bits(4, ("q4_0", "iq4_nl")),
    _bits(3),
    _bits(2),
)
"""``-cq K,V``: whole bits from 2 to 8 (cache/quant.py:31), each of K and V its own."""

NARROWED: Final[frozenset[Role]] = frozenset({"matrix", "expert", "output"})

HEAD_BITS: Final = 6
"""Bits of the output matrix of most checkpoints (``--head_bits``)."""

HEAD: Final = Packing(HEAD_BITS, 0, SCALE)


@dataclass(frozen=True, slots=True)
class Exl3(WeightFormat):
    """A checkpoint of so many bits a weight: a trellis, and a vector of signs and scales for each side of a matrix.

    Rows have 16 bits more (``svh``); those of columns (``suh``), two bytes a column and matrix, are not counted.
    """

    def tensor_bytes(self, role: Role, shape: tuple[int, ...]) -> int:
        if role == "output":
            return HEAD.row_bytes(shape[0]) * prod(shape[1:])
        return WeightFormat.tensor_bytes(self, role, shape)


def _exl3(bits: str) -> Exl3:
    label = f"EXL3, {bits} bits a weight"
    return Exl3(f"exl3-{bits}", label, Packing(Fraction(bits), 0, SCALE), NARROWED, note="needs such a checkpoint")


WEIGHT_FORMATS: Final = (*(_exl3(bits) for bits in ("8", "6", "5", "4.5", "4", "3.5", "3", "2.5", "2")), BF16)

OPTIONS: Final = (
    Option(
        name="swa_full",
        label="Windows as whole layers",
        kind="switch",
        default=False,
        flag="-swa_full",
        summary="layers with windows are cached, and quantized, like the others instead of in rings of 16 bits",
    ),
    Option(
        name="recurrent_state_fp32",
        label="Recurrent states as f32",
        kind="switch",
        default=False,
        flag="-rs32",
        summary="states of delta nets at four bytes instead of two; those of Mamba-2 have four anyway",
    ),
    Option(
        name="moe_cpu_offload",
        label="Layers whose experts are in system memory",
        kind="whole",
        default=0,
        flag="-mcl",
        high=10_000,
        summary="counted from the first layer that has experts; only for checkpoints with the mul1 codebook",
    ),
    Option(
        name="recurrent_cache_size",
        label="GB for checkpoints of states",
        kind="number",
        default=4.0,
        flag="-rcs",
        high=1024,
        summary="system memory for states and windows of earlier prompts",
    ),
)

ARCHITECTURES: Final = words(
    """
    afmoe apertus arcee command-r cohere2 deci deepseek2 dots1 ernie4_5 ernie4_5-moe exaone4 gemma2 gemma3 gemma4
    glm-dsa glm4 glm4moe gpt-oss hy_v3 kimi-linear laguna lfm2 lfm2moe llama mimo2 minimax-m2 mistral3 mistral4
    muse-glimmer nemotron_h nemotron_h_moe olmo2 phi3 qwen2 qwen2vl qwen3 qwen3moe qwen3next qwen3vl qwen3vlmoe qwen35
    qwen35moe seed_oss smollm3 spark2_5 step35
    """
)
"""llama.cpp's names of what architecture/architectures.py has. Of deepseek2 only what is made like V3, of olmo2 only
OLMo 3: see ``refuse``."""

RINGS: Final = words("gemma4 gpt-oss laguna mimo2 muse-glimmer step35")
"""Architectures whose windows are rings (modules/sliding_attn.py); those of others are cached like whole layers."""

MAX_ONLINE: Final = 512
"""The widest head of which a quantized cache is read as it is (modules/attention_fn/dispatch.py:119-135)."""


def refuse(job: Job) -> None:
    """What ExLlamaV3 does not load.

    Raises:
        SettingsError: it does not, or how it caches is not known.
    """
    refuse_unknown(job, NAME, ARCHITECTURES)
    model = job.model
    layers = layout(model)
    lacks = (model.architecture == "deepseek2" and not any(layer.biased_probs for layer in model.kinds)) or (
        model.architecture == "olmo2" and not model.has_windows
    )
    if lacks:
        message = f"{NAME} has DeepSeek V3 and what is made like it, and OLMo 3; not {model.name}"
        raise SettingsError("not-in-engine", message, field="engine")
    for field, kind in (("cache_type_k", job.type_k), ("cache_type_v", job.type_v)):
        odd = next((cached for cached in layers if cached.n_head_kv * cached.n_embd_head_k % GROUP), None)
        if kind.k != F16 and odd:
            message = f"{field} is {kind.id}, but a token of this model is no whole number of groups of {GROUP}"
            raise SettingsError("odd-head-size", message, field=field, allowed=("fp16",))
    if (job.type_k.k == F16) != (job.type_v.k == F16):
        field, kind = ("cache_type_v", job.type_v) if job.type_v.k == F16 else ("cache_type_k", job.type_k)
        allowed = tuple(one.id for one in CACHE_TYPES if one.k != F16)
        message = f"{field} is {kind.id}, but -cq quantizes K and V or neither: it must be {', '.join(allowed)}"
        raise SettingsError("half-quantized", message, field=field, allowed=allowed)
