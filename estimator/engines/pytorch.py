"""What PyTorch takes beside its tensors, and how its allocator rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.capacity import MIB
from estimator.lines import Line
from estimator.memory.overhead import CUBLAS_WORKSPACE_HOPPER, HOPPER, overhead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from estimator.devices import Device

TORCH_WORKSPACE: Final = 8320 * 1024
"""cuBLAS's workspace of PyTorch below compute capability 9.0: two of 4096 KiB and eight of 16, ``:4096:2:16:8``; 32 MiB
from there on (``parseChosenWorkspaceSize``, aten/src/ATen/cuda/CublasHandlePool.cpp)."""

ROUNDED_FROM: Final = 10 * MIB
ROUNDED_TO: Final = 2 * MIB
"""PyTorch's allocator takes blocks of 10 MiB and more in multiples of 2 MiB (``kMinLargeAlloc`` and ``kRoundLarge``,
c10/cuda/CUDACachingAllocator)."""

SEGMENT: Final = 20 * MIB
"""What it takes for smaller blocks at a time (``kLargeBuffer``)."""


def torch_lines(device: Device, label: str) -> Iterator[Line]:
    """What PyTorch takes beside its tensors: the driver's context, cuBLAS, kernels, and what others keep."""
    for cost in overhead(device):
        if cost.label == "cuBLAS workspace":
            size = CUBLAS_WORKSPACE_HOPPER if (device.compute_capability or HOPPER) >= HOPPER else TORCH_WORKSPACE
            explain = f"{size / MIB:.2f} MiB as PyTorch asks for (ATen/cuda/CublasHandlePool.cpp)"
            yield Line(label, "overhead", cost.label, size, "exact", explain)
            continue
        yield Line(label, "overhead", cost.label, cost.bytes, cost.basis, cost.explain)
