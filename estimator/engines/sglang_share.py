"""The share of a device that SGLang takes for weights and cache: ``mem_fraction_static`` and its rule (0.5.23).

Source: sglang/srt/arg_groups/memory_hook.py:46-455. The rest is for what computes: activations, CUDA graphs, and the
table of tokens of all requests. Not modelled: data parallelism, several stages, disaggregated prefill and decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB, MIB
from estimator.engines.layout import layout
from estimator.engines.sglang_tables import is_latent, is_major
from estimator.engines.weights import beside_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.engines.base import Job
    from estimator.model import Model

CHUNKS: Final = ((20, 2048), (60, 4096), (160, 8192))
"""``chunked_prefill_size`` of GPUs with less memory than so many GiB (memory_hook.py:87-191)."""

MOST_CHUNK: Final = 16384
UNKNOWN_CHUNK: Final = 4096

BATCHES: Final = ((20, 8, 8), (35, 48, 160), (60, 32, 160), (160, 256, 512))
"""The largest batch that decoding graphs are captured for, below four devices and from four on."""

MOST_BATCH: Final = 512

ENCODERS: Final = 100 * MIB
"""Held back for what encoders of images give (kv_cache_configurator.py:202, ``SGLANG_VLM_CACHE_SIZE_MB``)."""

VIT_L: Final = 24 * 1024**2
"""Layers times squared width of the encoder that others are measured by (memory_hook.py:439-450)."""

TRTLLM_PAGES: Final = (16, 32, 64, 128)

NO_PREFILL_GRAPHS: Final = frozenset({"kimi-linear"})
"""Architectures whose prefill is not captured: KDA (cuda_graph_hook.py:184-192)."""


@dataclass(frozen=True, slots=True)
class Fraction:
    """``mem_fraction_static``, and how it came about.

    Args:
        value: of what is free before weights are loaded.
        is_asked: somebody set it.
        explain: the rule with its numbers.
    """

    value: float
    is_asked: bool
    explain: str


def total_mib(devices: Sequence[Device]) -> int | None:
    """MiB that the driver shows of the smallest device; None where one is not known."""
    sizes = [device.memory_bytes or device.capacity for device in devices]
    known = [size for size in sizes if size is not None]
    return min(known) // MIB if len(known) == len(sizes) else None


def default_chunk(devices: Sequence[Device]) -> int:
    """``chunked_prefill_size`` where it is not asked for."""
    size = total_mib(devices)
    if size is None:
        return UNKNOWN_CHUNK
    return next((chunk for gib, chunk in CHUNKS if size < gib * 1024), MOST_CHUNK)


def fraction(job: Job) -> Fraction:
    """The share that is asked for, or that the rule gives for devices whose memory is known."""
    asked = job.options["mem_fraction_static"]
    if isinstance(asked, (int, float)):
        return _attended(job, Fraction(asked, True, f"mem_fraction_static {asked}"))
    size = total_mib(job.devices)
    assert size
    reserve = 512 + 1.5 * max(job.chunk, 2048) + len(job.devices) / 8 * 1024 + graphs_mib(job)
    text = f"512 + 1.5 x {max(job.chunk, 2048):,} + {len(job.devices)} / 8 x 1,024 + {graphs_mib(job):,} (graphs)"
    if size > 60 * 1024 and reserve < 10 * 1024:
        reserve, text = 10 * 1024, "10,240, the least above 60 GiB"
    value = round((size - reserve) / size, 3)
    return _attended(job, _encoders(job.model, Fraction(value, False, f"{value} = 1 - ({text}) / {size:,} MiB")))


def graphs_mib(job: Job) -> int:
    """MiB reserved for CUDA graphs of decoding and of prefill (memory_hook.py:357-400)."""
    if job.is_on("disable_cuda_graph"):
        return 0
    decode = 2 * max_batch(job)
    if job.devices[0].backend == "rocm" or job.model.architecture in NO_PREFILL_GRAPHS:
        return decode
    return decode + (1536 if uses_latents(job.model) else 8 * len(buckets(job.chunk)))


def max_batch(job: Job) -> int:
    """The largest batch that decoding graphs are captured for (memory_hook.py:87-199)."""
    size = total_mib(job.devices)
    small = len(job.devices) < 4
    if size is None:
        batch = 160
    else:
        sizes = (few if small else many for gib, few, many in BATCHES if size < gib * 1024)
        batch = next(sizes, MOST_BATCH)
    most = job.options["max_running_requests"]
    return min(batch, most) if isinstance(most, int) else batch


def buckets(chunk: int) -> list[int]:
    """Numbers of tokens that prefill graphs are captured for (cuda_graph_hook.py:480-497)."""
    steps = ((4, 33, 4), (48, 257, 16), (288, 513, 32), (576, 1025, 64), (1280, 4097, 256), (4608, chunk + 1, 512))
    return [size for first, end, step in steps for size in range(first, end, step) if size <= chunk]


def uses_latents(model: Model) -> bool:
    """Whether SGLang runs its backends of latents (MLA)."""
    return any(is_latent(cached) for cached in layout(model))


def taken(job: Job, least: int) -> int:
    """Bytes of each device for weights and cache, of so many that are free on the fullest."""
    encoders = ENCODERS if beside_text(job.model) else 0
    return max(int(least * fraction(job).value) - encoders, 0)


def why(job: Job, least: int) -> str:
    """The formula of ``taken``."""
    share = fraction(job)
    text = f"{share.value:.3f} of {least / GIB:.2f} GiB that are free before weights are loaded; {share.explain}"
    return text + ("; less 100 MiB for what encoders give" if beside_text(job.model) else "")


def _encoders(model: Model, text: Fraction) -> Fraction:
    """Less where the checkpoint has an encoder of images, by its size against that of ViT-L (memory_hook.py:417-462).

    Layers and width are taken from the weights beside the text model: 12 x width squared a layer.
    """
    beside = beside_text(model)
    if not beside:
        return text
    factor = 0.95 * max(0.8, min(1.05, 1 - 0.1 * (beside / 12 / VIT_L - 1)))
    explain = f"{text.explain}, x {factor:.3f} for encoders of {beside:,} weights"
    return Fraction(text.value * factor, False, explain)


def _attended(job: Job, share: Fraction) -> Fraction:
    """AITER, the backend of heads on ROCm, leaves less from 8,193 tokens on (attention_hook.py:243-271)."""
    if job.devices[0].backend != "rocm" or job.n_ctx <= 8192 or uses_latents(job.model):
        return share
    explain = f"{share.explain}, x 0.85 for AITER beyond 8,192 tokens"
    return Fraction(share.value * 0.85, share.is_asked, explain)


def page_tokens(job: Job) -> int:
    """Tokens of a page: what the attention backend needs, else what is asked for, else 1.

    DSA needs 64, FA4 for MXFP8 on SM100 128, TRTLLM MHA, for heads on SM100 and for NVFP4, one of four sizes
    (arg_groups/overrides.py:1144-1205 and 1276-1299, model_overrides/deepseek_v2.py:171).
    """
    asked = job.options["page_size"]
    if any(cached.n_indexer for cached in layout(job.model)):
        return 64
    if not uses_latents(job.model):
        is_data_centre = is_major(job.devices[0], 10)
        if job.type_k.id == "mxfp8" and is_data_centre:
            return 128
        if is_data_centre or job.type_k.id == "nvfp4":
            return asked if isinstance(asked, int) and asked in TRTLLM_PAGES else 64
    return asked if isinstance(asked, int) else 1
