"""SGLang's tables: what ``--kv-cache-dtype`` and checkpoints may be, its options, and what it refuses (0.5.23).

Files are those of the wheel, below sglang/srt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines.layout import layout
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.weights import AWQ, BF16, MXFP4, NVFP4, WeightFormat
from estimator.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.engines.base import Job
    from estimator.engines.layout import Cached

CACHE_TYPES: Final[tuple[CacheType, ...]] = (
    cache_type("auto", "16-bit", F16, ("f16", "bf16", "float16", "bfloat16"), "the type that the model is computed in"),
    cache_type("fp8_e4m3", "fp8 (e4m3)", Packing(8), ("fp8",), "one scale for a layer"),
    cache_type("fp8_e5m2", "fp8 (e5m2)", Packing(8)),
    cache_type("mxfp8", "MXFP8, a scale for each 32", Packing(8, 32, 8)),
    cache_type("fp4_mx_block16", "FP4, a scale for each 16", Packing(4, 16, 8)),
    cache_type("nvfp4", "NVFP4", Packing(4, 16, 8)),
)
"""``--kv-cache-dtype`` (arg_groups/fields/model.py:197-222). Scales of a byte: mem_cache/memory_pool.py:3847 (mxfp8),
layers/quantization/fp4_kv_cache_quant_method.py:744-760 and 897-912 (a native or a linear layout of NVFP4's, never both
by default)."""

OF_LATENTS: Final = ("auto", "fp8_e4m3", "fp8_e5m2")
"""Types whose rows of latents were read: the FP4 recipes are registered for backends of whole heads."""

OF_INDEXED: Final = ("auto", "fp8_e4m3")
"""Types of latents with an indexer (arg_groups/overrides.py:545-552)."""

WEIGHT_FORMATS: Final = (
    BF16,
    WeightFormat("fp8", "fp8, quantized as it loads", Packing(8), option="fp8"),
    WeightFormat("int8", "int8 (W8A8), a scale a row", Packing(8, 0, 32), note="needs such a checkpoint"),
    AWQ,
    NVFP4,
    MXFP4,
)
"""Of ``--quantization`` (arg_groups/choices.py:32-67) those that a GGUF file has a counterpart of."""

OPTIONS: Final = (
    Option(
        name="mem_fraction_static",
        label="Share for weights and cache",
        kind="number",
        default=None,
        flag="--mem-fraction-static",
        low=0.05,
        high=1,
        summary="of what is free before weights are loaded; by default what a reserve for computing leaves",
    ),
    Option(
        name="max_running_requests",
        label="Requests in a batch",
        kind="whole",
        default=None,
        flag="--max-running-requests",
        low=1,
        high=4096,
        summary="few make the reserve for CUDA graphs smaller; by default 2,048 or more",
    ),
    Option(
        name="page_size",
        label="Tokens of a page",
        kind="whole",
        default=None,
        flag="--page-size",
        low=1,
        high=1024,
        summary="1, or what the attention backend needs: 64 or 128",
    ),
    Option(
        name="swa_full_tokens_ratio",
        label="Tokens of windows to tokens of the context",
        kind="number",
        default=0.8,
        flag="--swa-full-tokens-ratio",
        low=0.001,
        high=1,
        summary="layers with a window have so many tokens for each token of the others",
    ),
    Option(
        name="mamba_full_memory_ratio",
        label="Memory of states to memory of K and V",
        kind="number",
        default=0.9,
        flag="--mamba-full-memory-ratio",
        low=0.001,
        high=100,
        summary="how the pool is shared between recurrent states and the cache of attention",
    ),
    Option(
        name="mamba_ssm_dtype",
        label="Type of recurrent states",
        kind="choice",
        default="auto",
        flag="--mamba-ssm-dtype",
        choices=("auto", "float32", "float16", "bfloat16"),
        summary="auto is what the model's config says, float32 where it does not",
    ),
    Option(
        name="disable_radix_cache",
        label="No prefix caching",
        kind="switch",
        default=False,
        flag="--disable-radix-cache",
        summary="a request has one recurrent state instead of three or five",
    ),
    Option(
        name="disable_cuda_graph",
        label="No CUDA graphs",
        kind="switch",
        default=False,
        flag="--disable-decode-cuda-graph",
        summary="neither of decoding nor of prefill: slower, and their reserve goes to the cache",
    ),
)

WINDOWED: Final = frozenset(
    {"gpt-oss", "gemma4", "llama4", "mimo2", "step35", "laguna", "mellum", "muse-glimmer"},
)
"""Architectures whose windows have a pool of their own (configs/model_config.py:88-96 and 2651-2697). All others keep
the whole context in every layer: Gemma 2 and 3, OLMo 3 and EXAONE 4 say so (arg_groups/model_overrides)."""

STATES: Final = {
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next", "kimi-linear", "nemotron_h", "nemotron_h_moe"), 5),
    **dict.fromkeys(("falcon-h1", "granitehybrid"), 5),
    **dict.fromkeys(("lfm2", "lfm2moe", "mamba", "mamba2"), 3),
}
"""States that a request holds beside the cache of prefixes: three, and two more where steps overlap
(arg_groups/overrides.py:368-425, kv_cache_configurator.py:3062-3088)."""

GFX: Final = ("gfx942", "gfx950")
"""What kernels are built for on ROCm (sgl-kernel/setup_rocm.py: it stops for others that it finds)."""


def is_major(device: Device, *majors: int) -> bool:
    """Whether it is a CUDA device of one of these generations."""
    version = device.compute_capability
    return device.backend == "cuda" and version is not None and version[0] in majors


def is_latent(cached: Cached) -> bool:
    """Whether a layer caches a latent: SGLang then uses other backends for the whole model."""
    return cached.attention == "latent"


def refuse(job: Job) -> None:
    """What SGLang does not start with.

    Raises:
        SettingsError, DeviceError: it does not start, or what it would store is not known.
    """
    _refuse_devices(job)
    _refuse_model(job)
    _refuse_requests(job)
    _refuse_type(job)
    for device in job.devices:
        why, _ = refusal(job.type_k.id, device)
        if why:
            allowed = tuple(kind.id for kind in CACHE_TYPES if not refusal(kind.id, device)[0])
            message = f"cache_type_k {job.type_k.id} does not run on {device.name}: {why}; use {', '.join(allowed)}"
            raise SettingsError("unsupported-cache-type", message, field="cache_type_k", allowed=allowed)


def refuse_devices(devices: Sequence[Device]) -> None:
    """Devices that no type runs on.

    Raises:
        DeviceError: one is too old, or of a kind that no kernels are built for.
    """
    for device in devices:
        why, _ = _too_old(device)
        if why:
            message = f"SGLang does not run on {device.name}: {why}"
            raise DeviceError("unsupported-device", message, field="device", allowed="another device")


def _refuse_devices(job: Job) -> None:
    n_devices = len(job.devices)
    n_head = max((cached.n_head for cached in layout(job.model)), default=0)
    if n_head % n_devices:
        allowed = ", ".join(str(n) for n in range(1, n_head + 1) if n_head % n == 0)
        message = f"{n_devices} devices do not divide the {n_head} heads of this model; it can be {allowed}"
        raise DeviceError("heads-not-divisible", message, field="device", allowed=allowed)


def _refuse_requests(job: Job) -> None:
    most = job.options["max_running_requests"]
    if isinstance(most, int) and job.n_requests > most:
        message = f"n_requests is {job.n_requests:,}, but {most:,} run at once (max_running_requests)"
        raise SettingsError("out-of-range", message, field="n_requests", allowed=f"1 to {most:,}")


def _refuse_type(job: Job) -> None:
    """Latents have fewer types; what an indexer beside whole heads stores was not read."""
    layers = layout(job.model)
    if any(cached.n_indexer and not is_latent(cached) for cached in layers):
        message = f"how SGLang stores the indexer of {job.model.architecture} is not known"
        raise SettingsError("not-modelled", message, field="engine")
    if any(is_latent(cached) for cached in layers):
        indexed = any(cached.n_indexer for cached in layers)
        allowed = OF_INDEXED if indexed else OF_LATENTS
        if job.type_k.id not in allowed:
            kind = "latents with an indexer (DSA)" if indexed else "latents (MLA)"
            message = f"cache_type_k is {job.type_k.id}, but for {kind} it must be {', '.join(allowed)}"
            raise SettingsError("cache-type-of-other-models", message, field="cache_type_k", allowed=allowed)
    group = {"mxfp8": 32, "nvfp4": 16, "fp4_mx_block16": 16}.get(job.type_k.id, 1)
    odd = next((cached.n_embd_head_k for cached in layers if cached.n_embd_head_k % group), 0)
    if odd:
        message = f"cache_type_k is {job.type_k.id}, whose groups of {group} do not divide heads of {odd}"
        raise SettingsError("odd-head-size", message, field="cache_type_k", allowed=("auto", "fp8_e4m3"))


def _refuse_model(job: Job) -> None:
    """What was not read: states of other models, windows of latents, 4 bits beside windows."""
    model = job.model
    layers = set(layout(model))

    def refused(what: str, field: str) -> SettingsError:
        return SettingsError("not-modelled", f"{what} is not known", field=field)

    if model.has_states and model.architecture not in STATES:
        raise refused(f"what states SGLang keeps of {model.architecture}", "engine")
    if any(is_latent(cached) and cached.window for cached in layers):
        raise refused(f"how SGLang keeps latents with a window ({model.architecture})", "engine")
    is_windowed = model.architecture in WINDOWED
    if is_windowed and job.type_k.id in ("nvfp4", "fp4_mx_block16"):
        raise refused(f"what SGLang takes for {job.type_k.id} in a pool of windows", "cache_type_k")
    rows = {(cached.n_head_kv, cached.n_embd_head_k, cached.n_embd_head_v) for cached in layers if cached.n_head_kv}
    if len(rows) > 1 and not is_windowed:
        raise refused(f"how SGLang sizes one pool for layers of {model.architecture} that differ", "engine")


def refusal(id: str, device: Device) -> tuple[str, str]:
    """Why a type does not run on a device, empty where it does, and where that is written.

    A device of unknown compute capability is taken to be new enough.
    """
    why, source = _too_old(device)
    if why:
        return why, source
    known = device.backend == "rocm" or device.compute_capability is not None
    if id == "mxfp8" and known and not is_major(device, 10, 11, 12):
        return "MXFP8 needs Blackwell (SM100 or later)", "arg_groups/kv_cache_hook.py:100-109"
    if id == "nvfp4" and known and not is_major(device, 10, 12):
        return "NVFP4 needs Blackwell SM100 or SM120", "arg_groups/kv_cache_hook.py:125-131"
    if id == "fp4_mx_block16" and device.backend == "rocm":
        return "4 bits are for CUDA", "arg_groups/kv_cache_hook.py:317-318"
    return "", "arg_groups/kv_cache_hook.py:100-318, layers/attention"


def _too_old(device: Device) -> tuple[str, str]:
    if device.backend == "cuda" and device.compute_capability and device.compute_capability < (7, 5):
        source = "model_executor/model_runner_components/load_model_utils.py:82-91"
        return "it needs compute capability 7.5", source
    if device.backend == "rocm" and device.gfx_target and device.gfx_target not in GFX:
        return f"its kernels are built for {' and '.join(GFX)} only", "sgl-kernel/setup_rocm.py"
    return "", ""
