"""How fast a backend of llama.cpp reads a cache of certain K and V types: b11434's kernels of flash attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from estimator.ggml import ElementType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from estimator.backends import BackendName
    from estimator.model import Model

T = ElementType

Speed = Literal["fast", "slow", "cpu"]
"""``fast``: a kernel of its own; ``slow``: the whole cache is converted for every token; ``cpu``: no kernel at all."""

CUDA_PAIRS: Final = frozenset({(T.F16, T.F16), (T.BF16, T.BF16), (T.Q8_0, T.Q8_0), (T.Q4_0, T.Q4_0)})
"""Pairs that a build compiles kernels for unless told otherwise (``GGML_CUDA_FA_QUANTS``, ggml/CMakeLists.txt:208)."""

CUDA_HEAD_SIZES: Final = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
"""Equal K and V head sizes that CUDA's kernels take without conditions (ggml-cuda/fattn.cu:577-600)."""

CUDA_VECTOR_HEAD_SIZES: Final = frozenset({64, 128, 256})
"""Head sizes with a kernel that reads a quantized cache as it is: the others read f16 (ggml-cuda/fattn.cu:635)."""

METAL_HEAD_SIZES: Final = frozenset({32, 40, 48, 64, 72, 80, 96, 112, 128, 192, 256, 320, 512, 576})
"""ggml-metal/ggml-metal-device.m:1726-1770."""

HEAD_SIZES: Final[Mapping[BackendName, frozenset[int]]] = {
    "cuda": CUDA_HEAD_SIZES,
    "rocm": CUDA_HEAD_SIZES,
    "metal": METAL_HEAD_SIZES,
}


SLOW_BEFORE: Final = "builds up to about b10819 compute attention on the CPU instead"
"""What was so of pairs without a kernel: llama.cpp #28456, #24485, #27109."""


class Kernel(NamedTuple):
    """How fast a pair is on a backend, and why."""

    speed: Speed
    why: str


FAST: Final = Kernel("fast", "a kernel of its own")


def as_read(element_type: ElementType) -> ElementType:
    """The type that a kernel sees: an f32 side is cast to f16 before (llama-graph.cpp:2727-2733)."""
    return T.F16 if element_type is T.F32 else element_type


def kernel(backend: BackendName, type_k: ElementType, type_v: ElementType, head_sizes: Collection[int] = ()) -> Kernel:
    """How flash attention reads a cache of these types, and of heads of these sizes where they are told.

    Source: ggml-cuda/fattn.cu:497-640, ggml-metal/ggml-metal-device.m:1726-1770.
    """
    if backend == "generic":
        return Kernel("fast", "a device without peculiarities")
    found = _kernel(backend, as_read(type_k), as_read(type_v), head_sizes)
    if found.speed == "fast" and T.F32 in (type_k, type_v):
        return Kernel("slow", "no kernel reads f32: the cache of a layer becomes f16 for every token")
    return found


def _kernel(backend: BackendName, type_k: ElementType, type_v: ElementType, head_sizes: Collection[int]) -> Kernel:
    if T.IQ4_NL in (type_k, type_v):
        return Kernel("cpu", "no kernel for iq4_nl: attention runs on the CPU")
    if backend == "metal":
        return (
            FAST if type_k is type_v else Kernel("cpu", "Metal has no kernel for two types: attention runs on the CPU")
        )
    other = min(set(head_sizes) - CUDA_VECTOR_HEAD_SIZES, default=None)
    if other and not type_k is type_v is T.F16:
        return Kernel(
            "slow", f"heads of {other} are read in f16 only: the cache of a layer becomes f16 for every token"
        )
    if (type_k, type_v) in CUDA_PAIRS:
        return FAST
    return Kernel("slow", f"no kernel in usual builds: the cache of a layer becomes f16 for every token; {SLOW_BEFORE}")


def cached_head_sizes(model: Model) -> set[int]:
    """Sizes of the heads of K in the cache."""
    return {layer.n_embd_head_k for layer in model.kinds if layer.n_embd_k_gqa}


def odd_head_size(backend: BackendName, model: Model) -> int | None:
    """The smallest head size of the model that the backend may have no kernel for."""
    if backend == "generic":
        return None
    sizes = {layer.n_embd_head_k for layer in model.kinds}
    return min(sizes - HEAD_SIZES[backend], default=None)


def slowest(kernels: Iterable[Kernel]) -> Kernel:
    """The kernel that a run over several devices waits for."""
    return max(kernels, key=lambda kernel: get_args(Speed).index(kernel.speed))
