"""LMDeploy's tables: ``--quant-policy`` and checkpoints, its options, its two back ends and what they refuse (0.16.0).

Files are those of the wheel, below lmdeploy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from estimator.engines.layout import layout
from estimator.engines.options import Option
from estimator.engines.packing import F16, CacheType, Packing, cache_type
from estimator.engines.weights import AWQ, BF16, MXFP4, WeightFormat
from estimator.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from estimator.devices import Device
    from estimator.engines.base import Job
    from estimator.model import Model

Backend = Literal["turbomind", "pytorch"]

SCALE_AND_ZERO: Final = 32
"""Bits of scale and zero of each token and head, both at 16 (pytorch/engine/cache_engine.py:415-438)."""

CACHE_TYPES: Final[tuple[CacheType, ...]] = (
    cache_type("none", "16-bit", F16, ("auto", "f16", "bf16", "float16", "bfloat16"), "the type of the model"),
    cache_type(
        "int8", "int8, scale and zero a token and head", Packing(8, 0, SCALE_AND_ZERO), ("int8_per_token_head",)
    ),
    cache_type(
        "int4", "int4, scale and zero a token and head", Packing(4, 0, SCALE_AND_ZERO), ("int4_per_token_head",)
    ),
    cache_type("fp8", "fp8 (e4m3)", Packing(8), ("fp8_e4m3",), "PyTorch engine only"),
    cache_type("fp8_e5m2", "fp8 (e5m2)", Packing(8), (), "PyTorch engine only"),
    CacheType(
        "turbo_quant",
        "TurboQuant, K 4 and V 2 bits",
        Packing(4, 0, SCALE_AND_ZERO),
        Packing(2, 0, 16),
        (),
        "PyTorch engine only",
    ),
)
"""``--quant-policy`` (cli/utils.py:256-280, messages.py:20-27)."""

OF_TURBOMIND: Final = ("none", "int8", "int4")
"""Types of TurboMind (messages.py:355-358 refuses fp8; TurboQuant's kernels are the PyTorch engine's)."""

WEIGHT_FORMATS: Final = (
    BF16,
    WeightFormat("fp8", "fp8, in blocks of 128", Packing(8), option="fp8", note="needs such a checkpoint on TurboMind"),
    AWQ,
    MXFP4,
)
"""Of ``--model-format`` (cli/utils.py:139-151)."""

OPTIONS: Final = (
    Option(
        name="backend",
        label="Engine",
        kind="choice",
        default=None,
        flag="--backend",
        choices=("turbomind", "pytorch"),
        summary="TurboMind where it has the model and the type, else PyTorch, which also reserves memory for logits",
    ),
    Option(
        name="cache_max_entry_count",
        label="Share of free memory for the cache",
        kind="number",
        default=0.8,
        flag="--cache-max-entry-count",
        low=0.01,
        high=0.99,
        summary="of what is free once the weights are loaded",
    ),
    Option(
        name="cache_block_seq_len",
        label="Tokens of a block",
        kind="choice",
        default="64",
        flag="--cache-block-seq-len",
        choices=("64", "128", "256"),
        summary="a request takes whole blocks",
    ),
    Option(
        name="max_batch_size",
        label="Requests in a batch",
        kind="whole",
        default=None,
        flag="--max-batch-size",
        low=1,
        high=4096,
        summary="128, 384 on A100, 1,024 on H100 and H200; PyTorch keeps a recurrent state and rows of logits for each",
    ),
)

BATCHES: Final = (("a100", 384), ("a800", 384), ("h100", 1024), ("h800", 1024), ("l20y", 1024), ("h200", 1024))
"""``max_batch_size`` by a part of the device's name (utils.py:394-412)."""

TURBOMIND: Final = frozenset(
    {"llama", "internlm2", "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen35", "qwen35moe", "gpt-oss"}
)
"""Architectures of TurboMind (turbomind/supported_models.py:8-38). Of ``llama`` Mistral is not among them, of
``deepseek2`` GLM 4.7 Flash alone is: a header does not tell these apart."""

PYTORCH: Final = TURBOMIND | {
    *("baichuan", "chatglm", "glm4", "glm4moe", "glm-dsa", "deepseek", "deepseek2", "deepseek32"),
    *("gemma", "gemma2", "gemma3", "hy_v3", "llama4", "phi3", "phimoe", "qwen", "qwen3next", "qwen3vl", "qwen3vlmoe"),
    *("starcoder2",),
}
"""Architectures of the PyTorch engine (pytorch/models/module_map.py). MiniCPM 3 is left out: it caches no latents."""


def backend(job: Job) -> Backend:
    """The engine that is asked for, else TurboMind where it can.

    LMDeploy itself goes by the model alone (archs.py:10-51) and stops at a type that TurboMind lacks.
    """
    asked = job.options["backend"]
    if asked is not None:
        return "turbomind" if asked == "turbomind" else "pytorch"
    can = job.model.architecture in TURBOMIND and job.type_k.id in OF_TURBOMIND
    return "turbomind" if can else "pytorch"


def max_batch_size(job: Job) -> int:
    """Requests in a batch."""
    asked = job.options["max_batch_size"]
    if isinstance(asked, int):
        return asked
    name = job.devices[0].name.lower()
    return next((size for part, size in BATCHES if part in name), 128)


def is_latent(model: Model) -> bool:
    """Whether it caches latents."""
    return any(cached.attention == "latent" for cached in layout(model))


def refuse(job: Job) -> None:
    """What LMDeploy does not start with.

    Raises:
        SettingsError, DeviceError: it does not start, or what it would store is not known.
    """
    _refuse_model(job)
    _refuse_devices(job)
    _refuse_type(job)
    most = max_batch_size(job)
    if job.n_requests > most:
        message = f"n_requests is {job.n_requests:,}, but a batch has at most {most:,} (max_batch_size)"
        raise SettingsError("out-of-range", message, field="n_requests", allowed=f"1 to {most:,}")
    for device in job.devices:
        why, _ = refusal(job.type_k.id, device)
        if why:
            allowed = tuple(kind.id for kind in CACHE_TYPES if not refusal(kind.id, device)[0])
            message = f"cache_type_k {job.type_k.id} does not run on {device.name}: {why}; use {', '.join(allowed)}"
            raise SettingsError("unsupported-cache-type", message, field="cache_type_k", allowed=allowed)


def refuse_devices(devices: Sequence[Device]) -> None:
    """Devices that no type runs on.

    Raises:
        DeviceError: one is too old.
    """
    for device in devices:
        if _too_old(device):
            message = f"LMDeploy does not run on {device.name}: it needs compute capability 7.0"
            raise DeviceError("unsupported-device", message, field="device", allowed="a newer device")


def _too_old(device: Device) -> bool:
    return device.compute_capability is not None and device.compute_capability < (7, 0)


def _refuse_model(job: Job) -> None:
    architecture, engine = job.model.architecture, backend(job)
    if architecture not in PYTORCH:
        message = f"LMDeploy is not known to load {architecture}"
        raise SettingsError("not-modelled", message, field="engine")
    if engine == "turbomind" and architecture not in TURBOMIND:
        message = f"backend is turbomind, which does not load {architecture}: it must be pytorch"
        raise SettingsError("model-of-other-backend", message, field="backend", allowed=("pytorch",))
    if engine == "turbomind" and job.type_k.id not in OF_TURBOMIND:
        message = (
            f"cache_type_k is {job.type_k.id}, but TurboMind has {', '.join(OF_TURBOMIND)}: backend must be pytorch"
        )
        raise SettingsError("cache-type-of-other-backend", message, field="cache_type_k", allowed=OF_TURBOMIND)


def _refuse_devices(job: Job) -> None:
    """Every device has as many heads; fewer heads of K and V are repeated (configurations/builder.py:56-66)."""
    n = len(job.devices)
    layers = layout(job.model)
    n_head = max((cached.n_head for cached in layers), default=0)
    n_kv = max((cached.n_head_kv for cached in layers), default=0)
    if n_head % n or (n_kv % n and n % max(n_kv, 1)):
        allowed = ", ".join(
            str(i) for i in range(1, n_head + 1) if n_head % i == 0 and (n_kv % i == 0 or i % n_kv == 0)
        )
        message = f"{n} devices do not divide the {n_head} heads of this model; it can be {allowed}"
        raise DeviceError("heads-not-divisible", message, field="device", allowed=allowed)
    is_fp8 = job.format is not None and job.format.id == "fp8" and backend(job) == "pytorch"
    for device in job.devices:
        if is_fp8 and device.compute_capability and device.compute_capability < (9, 0):
            message = f"weight_format is fp8, which the PyTorch engine does not run on {device.name}: it needs SM90"
            raise SettingsError("unsupported-weight-format", message, field="weight_format", allowed=("bf16", "awq"))


def _refuse_type(job: Job) -> None:
    """Latents are cached at 16 bits, or as rows of 656 bytes where they have an indexer."""
    layers, id = layout(job.model), job.type_k.id
    if is_latent(job.model):
        indexed = any(cached.n_indexer for cached in layers)
        allowed = ("none", "fp8") if indexed else ("none",)
        if id not in allowed:
            kind = "latents with an indexer (DSA)" if indexed else "latents (MLA)"
            message = f"cache_type_k is {id}, but for {kind} it must be {', '.join(allowed)}"
            raise SettingsError("cache-type-of-other-models", message, field="cache_type_k", allowed=allowed)
    sizes = {cached.n_embd_head_k for cached in layers if cached.n_head_kv}
    odd = next((size for size in sizes if size & (size - 1)), 0)
    if id == "turbo_quant" and odd:
        message = f"cache_type_k is turbo_quant, which needs heads of a power of two; this model's have {odd}"
        raise SettingsError("odd-head-size", message, field="cache_type_k", allowed=OF_TURBOMIND)
    rows = {(cached.n_head_kv, cached.n_embd_head_k, cached.n_embd_head_v) for cached in layers if cached.n_head_kv}
    if len(rows) > 1:
        message = f"how LMDeploy sizes blocks for layers of {job.model.architecture} that differ is not known"
        raise SettingsError("not-modelled", message, field="engine")


def refusal(id: str, device: Device) -> tuple[str, str]:
    """Why a type does not run on a device, empty where it does, and where that is written.

    A device of unknown compute capability is taken to be new enough.
    """
    version = device.compute_capability
    if _too_old(device):
        return "it needs compute capability 7.0", "README.md: TurboMind from V100 on"
    if version and id == "fp8" and version < (8, 9):
        return "Triton needs compute capability 8.9 for e4m3", "pytorch/kernels/cuda/fill_kv_cache.py:139-231"
    return "", "turbomind/kernels/attention, pytorch/kernels/cuda"
