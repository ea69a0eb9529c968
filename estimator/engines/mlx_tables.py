"""mlx-lm's tables: what ``--kv-bits`` and checkpoints may be, its models, its options, and what it refuses (0.32.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines.checkpoint import refuse_unknown, words
from estimator.engines.layout import layout, shown
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.weights import BF16, MXFP4, Role, WeightFormat
from estimator.errors import SettingsError
from estimator.settings import MAX_N_CTX

if TYPE_CHECKING:
    from estimator.engines.base import Job
    from estimator.engines.layout import Cached
    from estimator.model import Model

NAME: Final = "mlx-lm 0.32.2"

SCALE_AND_BIAS: Final = 32
"""Bits that a group shares: a scale and a bias in the type that the model is computed in (``mx.quantize``)."""

GROUP: Final = 64
"""The default of ``--kv-group-size`` and of ``--q-group-size``."""


def _bits(bits: int, aliases: tuple[str, ...] = ()) -> CacheType:
    packing = Packing(bits, GROUP, SCALE_AND_BIAS)
    return cache_type(f"{bits}bit", f"{bits}-bit, groups of {GROUP}", packing, aliases)


CACHE_TYPES: Final = (
    cache_type(
        "16bit", "16-bit", F16, ("f16", "bf16", "float16", "bfloat16"), "the type that the model is computed in"
    ),
    _bits(8, ("q8_0",)),
    _bits(6),
    _bits(5, ("q5_0",)),
    _bits(4, ("q4_0",)),
    _bits(3),
    _bits(2),
)
"""``--kv-bits``: what ``mx.quantize`` takes in its affine mode (QuantizedKVCache, models/cache.py:251-336)."""

ALL: Final[frozenset[Role]] = frozenset({"embedding", "output", "matrix", "expert"})
"""``nn.quantize`` narrows every linear layer and embedding whose rows are whole groups (utils.py:1057-1085). Routers
too, at 8 bits in many models; they count as 16 here."""


def _format(bits: int) -> WeightFormat:
    label = f"{bits}-bit, groups of {GROUP}"
    return WeightFormat(f"{bits}bit", label, Packing(bits, GROUP, SCALE_AND_BIAS), ALL, option=str(bits))


WEIGHT_FORMATS: Final = (
    BF16,
    *(_format(bits) for bits in (8, 6, 5, 4, 3, 2)),
    MXFP4,
)

OPTIONS: Final = (
    Option(
        name="kv_group_size",
        label="Group of the cache",
        kind="choice",
        default=str(GROUP),
        flag="--kv-group-size",
        choices=("32", "64", "128"),
        summary="elements that share a scale and a bias of two bytes each",
    ),
    Option(
        name="quantized_kv_start",
        label="Tokens before the cache is quantized",
        kind="whole",
        default=5000,
        flag="--quantized-kv-start",
        high=MAX_N_CTX,
        summary="until then it has 16 bits, and the chunk that gets there is computed at 16 bits too",
    ),
    Option(
        name="prompt_cache_size",
        label="Earlier prompts that the server keeps",
        kind="whole",
        default=0,
        flag="--prompt-cache-size",
        high=1000,
        summary="each as deep as the context; mlx_lm.server keeps 10 unless told otherwise, mlx_lm.generate none",
    ),
)

ARCHITECTURES: Final = words(
    """
    afmoe apertus bailingmoe bailingmoe2 bitnet chatglm command-r cohere2 dbrx deci deepseek deepseek2 deepseek32 dots1
    ernie4_5 ernie4_5-moe exaone exaone-moe exaone4 falcon-h1 gemma gemma2 gemma3 gemma3n gemma4 glm-dsa glm4 glm4moe
    gpt-oss gpt2 gptneox gptj granite granitehybrid granitemoe hunyuan-dense hunyuan-moe internlm2 jamba kimi-linear
    laguna lfm2 lfm2moe llama llama4 mamba mamba2 mellum mimo2 minicpm minicpm3 minimax-m2 minimax-m3 mistral3 mistral4
    muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe olmo olmo2 olmoe openelm phi2 phi3 phimoe plamo plamo2
    plamo3 qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3next qwen3vl qwen3vlmoe qwen35 qwen35moe seed_oss smollm3
    spark2_5 stablelm starcoder starcoder2 step35
    """
)
"""llama.cpp's names of what has a module in mlx_lm/models; it has modules for others that are not modelled here."""

WITHOUT_WINDOWS: Final = frozenset({"gemma2", "phi3"})
"""Architectures whose module makes no cache of its own, so that windows hold all tokens (models/gemma2.py)."""

CHUNKED: Final = frozenset({"llama4"})
"""Layers of chunks have a cache that is cut at its front when the next prompt comes (ChunkedKVCache, cache.py:727)."""

OWN_ATTENTION: Final = frozenset({"gemma2", "olmo"})
"""Modules that compute scores themselves, and cannot read a quantized cache (models/gemma2.py:60-108, olmo.py)."""

LISTS: Final = frozenset({"falcon-h1", "deepseek32", "glm-dsa", "minimax-m3"})
"""Caches that are lists of two (CacheList): ``--kv-bits`` passes over them (generate.py:304-309)."""

BY_HEAD: Final = frozenset({"minicpm3"})
"""Latent attention whose module caches K and V of every head (models/minicpm3.py:137-142)."""


def caches_latents(model: Model, cached: Cached) -> bool:
    """Whether latents are cached as such: DeepSeek V2 and Youtu-LLM cache K and V of every head (deepseek_v2.py:228).

    llama.cpp has one name for V2, V3 and Youtu: only V3 and what is made like it chooses experts with a bias.
    """
    if cached.attention != "latent" or model.architecture in BY_HEAD:
        return False
    return model.architecture != "deepseek2" or any(layer.biased_probs for layer in model.kinds)


def packing(job: Job) -> Packing | None:
    """How K and V are quantized once they are; None at 16 bits."""
    if job.type_k.k == F16:
        return None
    return Packing(job.type_k.k.bits, int(str(job.options["kv_group_size"])), SCALE_AND_BIAS)


def is_quantized(job: Job) -> bool:
    """Whether the cache is quantized at the end of the context, if it can be."""
    return packing(job) is not None and job.n_ctx >= max(job.whole("quantized_kv_start"), 1)


def refuse(job: Job) -> None:
    """What mlx-lm does not run.

    Raises:
        SettingsError: it fails, or how it caches is not known.
    """
    refuse_unknown(job, NAME, ARCHITECTURES)
    if packing(job) is None:
        return
    if job.n_requests > 1:
        message = f"n_requests is {job.n_requests:,}, but with --kv-bits mlx_lm.server answers one request at a time"
        raise SettingsError("one-request", message, field="n_requests", allowed="1 (server.py:768-773)")
    if is_quantized(job) and (why := _why_not(job)):
        start = job.whole("quantized_kv_start")
        message = f"cache_type_k {job.type_k.id} fails from token {start:,} on: {why}; use 16bit"
        raise SettingsError("cache-not-quantizable", message, field="cache_type_k", allowed=("16bit",))


def _why_not(job: Job) -> str:
    """Why the cache of a model cannot be quantized, empty where it can."""
    model = job.model
    if model.architecture in LISTS:
        return ""
    if model.architecture in OWN_ATTENTION:
        return f"the attention of {model.architecture} cannot read it (models/{model.architecture}.py)"
    if any(layer.sinks for layer in model.kinds):
        return "quantized attention has no sinks (models/base.py:119)"
    layers = [cached for cached in layout(model) if cached.attention != "none"]
    if any(cached.window for cached in layers) and model.architecture not in WITHOUT_WINDOWS | CHUNKED:
        return "caches of windows cannot be quantized (RotatingKVCache, models/cache.py:553)"
    if any(caches_latents(model, cached) for cached in layers):
        return "latents are read without being dequantized (models/deepseek_v3.py:147-152)"
    group = int(str(job.options["kv_group_size"]))
    for cached in layers:
        if any(width % group for width in heads(cached)):
            return f"{shown(cached)} is no whole number of groups of {group}"
    return ""


def heads(cached: Cached) -> tuple[int, ...]:
    """Elements of one head's K and V, of a latent those of the heads that it stands for, in all."""
    if cached.attention == "latent":
        return (cached.n_expanded // cached.n_head,)
    return cached.n_embd_head_k, cached.n_embd_head_v
