"""vLLM's tables: what ``--kv-cache-dtype`` and checkpoints may be, its options, and what it refuses (0.33.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.capacity import GIB
from estimator.engines.layout import layout
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.vllm_cache import EXPANDED
from estimator.engines.weights import AWQ, BF16, MXFP4, NVFP4, WeightFormat
from estimator.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    from estimator.devices import Device
    from estimator.engines.base import Job


PER_HEAD: Final = 32
"""Bits of the scale of each token and head (triton_attn.py:306-319)."""

CACHE_TYPES: Final = (
    cache_type("auto", "16-bit", F16, ("f16", "bf16", "float16", "bfloat16"), "the type that the model is computed in"),
    cache_type("fp8", "fp8 (e4m3)", Packing(8), ("fp8_e4m3",), "one scale for a tensor"),
    cache_type("fp8_e5m2", "fp8 (e5m2)", Packing(8)),
    cache_type("int8_per_token_head", "int8, a scale a token and head", Packing(8, 0, PER_HEAD)),
    cache_type("fp8_per_token_head", "fp8, a scale a token and head", Packing(8, 0, PER_HEAD)),
    cache_type("int4_per_token_head", "int4, a scale a token and head", Packing(4, 0, PER_HEAD)),
    cache_type("nvfp4", "NVFP4", Packing(4, 16, 8)),
    cache_type("nvfp4_4over6", "NVFP4, better scales", Packing(4, 16, 8)),
    # quantization/turboquant/config.py:20-176: a norm of two bytes for K, scale and zero of four for V
    CacheType("turboquant_k8v4", "TurboQuant, K 8 and V 4 bits", Packing(8), Packing(4, 0, 32)),
    CacheType("turboquant_4bit_nc", "TurboQuant, 4 bits", Packing(4, 0, 16), Packing(4, 0, 32)),
    CacheType("turboquant_k3v4_nc", "TurboQuant, K 3 and V 4 bits", Packing(3, 0, 16), Packing(4, 0, 32)),
    CacheType("turboquant_3bit_nc", "TurboQuant, 3 bits", Packing(3, 0, 16), Packing(3, 0, 32)),
    cache_type("ultraquant_4bit", "UltraQuant, 4 bits (ROCm)", Packing(4, 32, 8)),
)
"""``--kv-cache-dtype`` (config/cache.py:47-70). Left out: octave's three, whose bytes depend on how much of a head is
rotated (heads of 256 on RDNA 3 and CDNA 3 only, rocm_octave_attn.py:64), and the packed forms of latents: fp8 stands
for one where a model has an indexer."""

OF_LATENTS: Final = ("auto", "fp8", "fp8_e5m2")
"""Types that some backend has for latents (v1/attention/backends/mla)."""

FLASHINFER_HEADS: Final = frozenset({64, 128, 256, 512})
"""Sizes of heads that FlashInfer has kernels for (v1/attention/backends/flashinfer.py:685)."""

WEIGHT_FORMATS: Final = (
    BF16,
    WeightFormat("fp8", "fp8, quantized as it loads", Packing(8), option="fp8"),
    WeightFormat(
        "int8",
        "int8, quantized as it loads",
        Packing(8, 0, 32),
        option="int8_per_channel_weight_only",
        note="a scale of four bytes for each channel",
    ),
    AWQ,
    NVFP4,
    MXFP4,
)

OPTIONS: Final = (
    Option(
        name="gpu_memory_utilization",
        label="Share of the device",
        kind="number",
        default=0.92,
        flag="--gpu-memory-utilization",
        low=0.05,
        high=1,
        summary="taken whatever the context is (config/cache.py:185)",
    ),
    Option(
        name="block_size",
        label="Tokens of a block",
        kind="choice",
        default="16",
        flag="--block-size",
        choices=("16", "32", "64", "128"),
        summary="beside recurrent layers vLLM raises it",
    ),
    Option(
        name="max_num_seqs",
        label="Requests in a batch",
        kind="whole",
        default=None,
        flag="--max-num-seqs",
        low=1,
        high=16384,
        summary="256, or 1024 from 70 GiB on; each has a row of logits when memory is profiled",
    ),
    Option(
        name="enforce_eager",
        label="No CUDA graphs",
        kind="switch",
        default=False,
        flag="--enforce-eager",
        summary="slower, and the graphs' memory goes to the cache",
    ),
    Option(
        name="enable_prefix_caching",
        label="Prefix caching",
        kind="switch",
        default=True,
        flag="--enable-prefix-caching",
        summary="recurrent layers keep a second state for each request",
    ),
    Option(
        name="mamba_ssm_cache_dtype",
        label="Type of recurrent states",
        kind="choice",
        default="auto",
        flag="--mamba-ssm-cache-dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        summary="auto is what the model's config says",
    ),
)


def tier(device: Device) -> int:
    """0 from 160 GiB on, 1 from 70 GiB on, else 2; A100 and GB10 are in the last (arg_utils.py:2957-2990)."""
    size = device.capacity or 0
    if size >= 160 * GIB:
        return 0
    is_slow = "a100" in device.name.lower() or device.compute_capability == (12, 1)
    return 1 if size >= 70 * GIB and not is_slow else 2


def max_num_seqs(job: Job) -> int:
    """Requests in a batch: no more than its tokens."""
    asked = job.options["max_num_seqs"]
    if isinstance(asked, int):
        return asked
    return min((1024, 1024, 256)[tier(job.devices[0])], job.chunk)


def refuse(job: Job) -> None:
    """What vLLM does not start with.

    Raises:
        SettingsError, DeviceError: it does not start, or what it would store is not known.
    """
    _refuse_devices(job)
    _refuse_requests(job)
    _refuse_type(job)
    _refuse_heads(job)


def _refuse_devices(job: Job) -> None:
    """Every device has as many heads (config/model.py:1557-1564)."""
    n_devices = len(job.devices)
    n_head = max((cached.n_head for cached in layout(job.model)), default=0)
    if n_head % n_devices:
        allowed = ", ".join(str(n) for n in range(1, n_head + 1) if n_head % n == 0)
        message = f"{n_devices} devices do not divide the {n_head} heads of this model; it can be {allowed}"
        raise DeviceError("heads-not-divisible", message, field="device", allowed=allowed)


def _refuse_requests(job: Job) -> None:
    seqs = max_num_seqs(job)
    if seqs > job.chunk:
        message = f"max_num_seqs is {seqs:,}, more than the {job.chunk:,} tokens of a batch (chunk)"
        raise SettingsError("out-of-range", message, field="max_num_seqs", allowed=f"1 to {job.chunk:,}")
    if job.n_requests > seqs:
        message = f"n_requests is {job.n_requests:,}, but a batch has at most {seqs:,} (max_num_seqs)"
        raise SettingsError("out-of-range", message, field="n_requests", allowed=f"1 to {seqs:,}")


def _refuse_type(job: Job) -> None:
    """Latents have fewer types; what an indexer beside whole heads stores was not read."""
    layers = layout(job.model)
    if any(cached.n_indexer and cached.attention != "latent" for cached in layers):
        message = f"how vLLM stores the indexer of {job.model.architecture} is not known"
        raise SettingsError("not-modelled", message, field="engine")
    is_latent = any(cached.attention == "latent" for cached in layers) and job.model.architecture not in EXPANDED
    if is_latent and job.type_k.id not in OF_LATENTS:
        message = f"cache_type_k is {job.type_k.id}, but for latents (MLA) vLLM has {', '.join(OF_LATENTS)}"
        raise SettingsError("cache-type-of-other-models", message, field="cache_type_k", allowed=OF_LATENTS)


def _refuse_heads(job: Job) -> None:
    """Where only FlashInfer reads a type, its heads and its lack of sinks decide (flashinfer.py:665-695).

    Before compute capability 8.9 Triton, which takes any head, has no fp8; NVFP4 is FlashInfer's alone.
    """
    id = job.type_k.id
    versions = [device.compute_capability for device in job.devices if device.backend == "cuda"]
    is_fp8 = id in ("fp8", "fp8_e5m2") and any(version and version < (8, 9) for version in versions)
    is_nvfp4 = id.startswith("nvfp4") and any(version and version[0] in (8, 9, 12) for version in versions)
    if not (is_fp8 or is_nvfp4) or any(cached.attention == "latent" for cached in layout(job.model)):
        return
    heads = {cached.n_embd_head_k for cached in layout(job.model) if cached.attention != "none"}
    odd = sorted(heads - FLASHINFER_HEADS | (heads & {64} if is_nvfp4 else set()))
    if odd or any(layer.sinks for layer in job.model.kinds):
        why = f"heads of {odd[0]}" if odd else "attention with sinks"
        message = f"cache_type_k {id} is read by FlashInfer alone on these devices, which cannot for {why}: use auto"
        raise SettingsError("no-attention-backend", message, field="cache_type_k", allowed=("auto",))


def refusal(id: str, device: Device) -> tuple[str, str]:
    """Why a type does not run on a device, empty where it does, and where that is written.

    A device of unknown compute capability is taken to be new enough.
    """
    version = device.compute_capability if device.backend == "cuda" else None
    if id.startswith("nvfp4") and device.backend == "rocm":
        return "NVFP4 needs FlashInfer, which is for CUDA", "v1/attention/backends/flashinfer.py:640-665"
    if id == "nvfp4_4over6" and version and version[0] != 10:
        return "its scales need compute capability 10.x", "v1/attention/backends/flashinfer.py:655-665"
    if id.startswith("nvfp4") and version and version < (8, 0):
        return "NVFP4 needs compute capability 8.0", "v1/attention/backends/flashinfer.py:108-116"
    if id == "fp8_per_token_head" and version and version < (8, 9):
        return "Triton needs compute capability 8.9 for fp8", "v1/attention/backends/triton_attn.py:514-524"
    if id.startswith("fp8") and version and version < (8, 0):
        return "fp8 needs compute capability 8.0", "v1/attention/backends/flashinfer.py:695-700, triton_attn.py:514-524"
    if id == "ultraquant_4bit" and device.backend == "cuda":
        return "UltraQuant is for ROCm", "platforms/rocm.py:565-567"
    return "", "v1/attention/backends: supported_kv_cache_dtypes"
