"""How each backend of llama.cpp places one tensor in a buffer: the facts of llama.cpp b11434, in one place.

CUDA and HIP are one source (ggml-cuda is compiled for both). ``generic`` is a device without a backend's peculiarities:
llama.cpp's CPU buffer, which is also what its RPC server offers for one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from estimator.ggml import ElementType, is_quantized, pad, row_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

BackendName = Literal["cuda", "rocm", "metal", "generic"]


@dataclass(frozen=True, slots=True)
class Backend:
    """Allocation rule of a backend.

    Args:
        name: which backend.
        alignment: bytes; every tensor in a buffer takes a multiple of it (ggml-backend.cpp:71).
        row_padding: elements; the last row of a quantized tensor is followed by room up to a multiple of it,
            so that kernels may read beyond the end. 1 = none.
        fetches: which operations with a weight in host memory it computes nevertheless when there are enough rows, with
            a copy of the weight in its compute buffer (``offload_op``).
        reduces: most experts of a token whose rows one kernel weighs and adds up. What it reads is kept until it is
            done (``graph_optimize``), so that nothing of that is overwritten. 0 = there is no such kernel.
    """

    name: BackendName
    alignment: int
    row_padding: int
    fetches: Literal["nothing", "products", "everything"] = "nothing"
    reduces: int = 0

    def alloc_size(self, element_type: ElementType, ne0: int, n_rows: int) -> int:
        """Bytes that a contiguous tensor of ``n_rows`` rows of ``ne0`` elements takes in a buffer, padding included.

        The padding of a row comes once for a tensor, not once for a row. ``ne0`` must fill whole blocks.
        An operation's own scratch (flash attention, ``MUL_MAT_ID``) is not part of it.
        """
        size = row_bytes(element_type, ne0) * n_rows
        if is_quantized(element_type):
            size += row_bytes(element_type, -ne0 % self.row_padding)
        return pad(size, self.alignment)


BACKENDS: Final[Mapping[BackendName, Backend]] = MappingProxyType(
    {
        # ggml-cuda.cu:897-918 (get_alignment, get_alloc_size); common.cuh:186 (MATRIX_ROW_PADDING)
        # ggml-cuda.cu:5735-5758 (offload_op); 3094-3234 and 4646-4656 (ggml_cuda_match_moe_weighted_reduction)
        "cuda": Backend("cuda", alignment=128, row_padding=512, fetches="everything", reduces=15),
        "rocm": Backend("rocm", alignment=128, row_padding=512, fetches="everything", reduces=15),
        # ggml-metal.cpp:206-248 (get_alloc_size), 269, 347, 425 (alignment of shared, private and mapped buffers)
        # ggml-metal.cpp:780-786 (offload_op); ggml-metal-fusion.cpp:503-600 and 807-850 (moe_reduce)
        "metal": Backend("metal", alignment=32, row_padding=1, fetches="products", reduces=8),
        # ggml-impl.h:44 (TENSOR_ALIGNMENT); ggml-backend.cpp:2614
        "generic": Backend("generic", alignment=32, row_padding=1),
    }
)


def alloc_bytes(backend: BackendName, element_type: ElementType, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes in a buffer of ``backend``; ``shape`` is in ggml's order, the row length first."""
    return BACKENDS[backend].alloc_size(element_type, shape[0], math.prod(shape[1:]))
