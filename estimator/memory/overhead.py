"""Device memory that a process takes outside of llama.cpp's own buffers.

The driver's reserve is not here: a device's capacity already excludes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from estimator.capacity import MIB

if TYPE_CHECKING:
    from estimator.devices import Device

CUDA_CONTEXT: Final = 14 * MIB
CUDA_CONTEXT_PER_SM: Final = 29 * MIB // 10
"""Least squares over six cards, every residual below 7 MiB: GTX 1650 (14 SM) 56 MiB, RTX 4060 Ti (34) 107,
RTX 3090 (82) 256, RTX 4090 (128) 392, RTX 6000 Ada (142) 426, RTX PRO 6000 (188) 555.
Sources: ggml-org/llama.cpp PR 23604, unslothai/unsloth-zoo PR 1053, invoke-ai/InvokeAI issue 9413, lists in logs.
No reading for V100, H100 and B200. With lazy loading of kernels, CUDA 11.7 and later."""

MOST_SM: Final = 188
"""SM count taken where it is unknown (GB200, GB300): the most that any card of the catalogue has (RTX PRO 6000)."""

CUBLAS_WORKSPACE: Final = 4 * MIB
CUBLAS_WORKSPACE_HOPPER: Final = 32 * MIB
HOPPER: Final = (9, 0)
"""One workspace a device, from compute capability 9.0 on the larger (ggml-cuda/common.cuh:1538-1543). Taken when the
first operation goes through cuBLAS; HIP builds take none."""

CUDA_KERNELS: Final = 165 * MIB
"""Loaded kernels, CUDA graphs and pools: memory of a process after loading, less its buffers, context and workspace.
Five headless readings: 36 (A40), 115 (P100), 112-121 and 162 (RTX PRO 6000), 165 (H100); the most is taken.
Sources: logs with nvidia-smi beside the buffers of llama.cpp. Pools grow beyond it with very large ubatches."""

HIP_CONTEXT: Final = 176 * MIB
"""``hipMemGetInfo`` does not show it: a 7900 GRE had 16332 MiB free by HIP and 16206 by sysfs when idle (126), 5630 and
5454 with a model (176); ggml-org/llama.cpp PR 25123. The larger is taken."""

HIP_KERNELS: Final = 254 * MIB
"""What HIP does show beside llama.cpp's buffers at exit, headless: 253-254 (MI50 and MI60). MI210 354, one reading.
With the context 430 MiB; ollama holds back 457 MiB (ml/device.go, ``MinimumMemory``)."""


@dataclass(frozen=True, slots=True)
class OverheadLine:
    """One cost: what it is, bytes, how well it is known, and the formula with its numbers."""

    label: str
    bytes: int
    basis: Literal["exact", "modelled", "margin"]
    explain: str


def overhead(device: Device) -> tuple[OverheadLine, ...]:
    """What running on ``device`` costs beside llama.cpp's buffers, and what others keep of it.

    A process costs nothing on Metal and ``generic``.

    Metal: llama.cpp's breakdown at exit leaves nothing unaccounted for (M5, M4 Pro), and the wired pages of a run
    exceed its buffers by 10-20 MiB.
    """
    return *_of_process(device), *(OverheadLine(*reserve[:2], "margin", reserve.explain) for reserve in device.reserves)


def _of_process(device: Device) -> tuple[OverheadLine, ...]:
    if device.backend == "cuda":
        return *driver_context(device), _cublas(device), _cuda_kernels()
    if device.backend == "rocm":
        return *driver_context(device), _hip_kernels()
    return ()


def driver_context(device: Device) -> tuple[OverheadLine, ...]:
    """What the driver takes for a process before that does anything: the same for every engine."""
    if device.backend == "cuda":
        return (_cuda_context(device),)
    return (_hip_context(),) if device.backend == "rocm" else ()


def overhead_again(device: Device) -> tuple[OverheadLine, ...]:
    """What a companion with a backend of its own costs on ``device`` once more: a draft's context, a projector.

    A process has one CUDA context, but each ``ggml_backend`` its own cuBLAS handle (ggml-cuda/common.cuh:1531-1545).
    """
    return (_cublas(device),) if device.backend == "cuda" else ()


def _cuda_context(device: Device) -> OverheadLine:
    count = device.multiprocessors
    if count is None:
        size = CUDA_CONTEXT + CUDA_CONTEXT_PER_SM * MOST_SM
        explain = f"14 MiB + 2.9 MiB x {MOST_SM} SM (count unknown: the most that any card has)"
        return OverheadLine("CUDA context", size, "margin", explain)
    size = CUDA_CONTEXT + CUDA_CONTEXT_PER_SM * count
    explain = f"14 MiB + 2.9 MiB x {count} SM; within 7 MiB of six cards measured"
    return OverheadLine("CUDA context", size, "modelled", explain)


def _cublas(device: Device) -> OverheadLine:
    version = device.compute_capability
    if version is None:
        explain = "32 MiB (compute capability unknown: the larger of two)"
        return OverheadLine("cuBLAS workspace", CUBLAS_WORKSPACE_HOPPER, "margin", explain)
    size = CUBLAS_WORKSPACE_HOPPER if version >= HOPPER else CUBLAS_WORKSPACE
    explain = f"{size // MIB} MiB at compute capability {version[0]}.{version[1]}"
    return OverheadLine("cuBLAS workspace", size, "exact", explain)


def _cuda_kernels() -> OverheadLine:
    explain = "loaded kernels and CUDA graphs: 36-165 MiB in five measurements, the most taken"
    return OverheadLine("CUDA kernels and pools", CUDA_KERNELS, "margin", explain)


def _hip_context() -> OverheadLine:
    explain = "context that HIP does not show: 126-176 MiB on an RX 7900 GRE, the most taken"
    return OverheadLine("HIP context", HIP_CONTEXT, "margin", explain)


def _hip_kernels() -> OverheadLine:
    explain = "loaded kernels and pools: 254 MiB on the MI50 and MI60"
    return OverheadLine("HIP kernels and pools", HIP_KERNELS, "margin", explain)
