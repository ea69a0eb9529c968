"""Memory that a backend adds to single operations: fleeting data that lies behind the result in the compute buffer.

Each backend answers the same questions. Shapes are those of one attention layer: ``n_kv`` cells a stream, ``n_rows``
query rows a stream, ``n_stream`` streams. All sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from estimator.ggml import ElementType, is_quantized, pad, row_bytes

if TYPE_CHECKING:
    from estimator.devices import BackendName
    from estimator.model import Layer

F16_BYTES: Final = 2
F32_BYTES: Final = 4
I32_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Attention:
    """The operands of one flash-attention operation."""

    layer: Layer
    type_k: ElementType
    type_v: ElementType
    n_kv: int
    n_rows: int
    n_stream: int

    @property
    def k_elements(self) -> int:
        return self.n_kv * self.n_stream * self.layer.n_embd_k_gqa

    @property
    def v_elements(self) -> int:
        return self.n_kv * self.n_stream * self.layer.n_embd_v_gqa


class Scratch(Protocol):
    """What a backend adds to the result of an operation, in bytes."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        """Size of the result with its scratch; ``result`` is the size without."""

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int: ...

    def argsort(self, result: int) -> int: ...


class _None:
    """A device that adds nothing: llama.cpp's own answer, as the RPC backend gives it."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        return result

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int:
        return 0

    def argsort(self, result: int) -> int:
        return 0


class _Cuda(_None):
    """CUDA and HIP: an f16 copy of K and of V where they are not f16 (ggml-cuda/fattn.cu:722-757, b11434).

    The matrix kernels read f16. The vector kernel reads the cache as it is; it serves one or two rows of queries
    (fattn.cu:643-719), fewer than any prompt batch.
    """

    ALIGNMENT: Final = 128
    VECTOR_ROWS: Final = 2

    def flash_attn(self, attention: Attention, result: int) -> int:
        if attention.n_rows <= self.VECTOR_ROWS:
            return result
        if attention.type_k not in (ElementType.F16, ElementType.F32):
            result = pad(result, self.ALIGNMENT) + F16_BYTES * attention.k_elements
        if attention.type_v not in (ElementType.F16, ElementType.F32):
            result = pad(result, self.ALIGNMENT) + F16_BYTES * attention.v_elements
        return result


class _Metal(_None):
    """Metal: reserved whatever the types are (ggml-metal/ggml-metal-ops.cpp:3221-3376 and ggml-metal.cpp:220-255)."""

    KV_CHUNK: Final = 64
    """``OP_FLASH_ATTN_EXT_NCPSG``: cache rows of one step."""
    QUERY_CHUNK: Final = 8
    """``OP_FLASH_ATTN_EXT_NQPSG``: query rows of one threadgroup."""
    VECTOR_ROWS: Final = 19
    """Fewer than 20 rows of queries use the vector kernel (ggml_metal_op_flash_attn_ext_use_vec)."""
    WORKGROUPS: Final = 32
    MAX_ROWS: Final = 32
    AMAX_PARTS: Final = 256
    """``N_MM_NPART_AMAX``."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        return result + self._pad(attention) + self._blocks(attention) + self._partial(attention) + self._f16(attention)

    def _row(self, element_type: ElementType, n_embd_head: int, n_head_kv: int, n_rows: int) -> int:
        if is_quantized(element_type) and n_rows > self.VECTOR_ROWS:
            return F16_BYTES * n_embd_head
        stored = ElementType.F16 if element_type is ElementType.F32 else element_type
        return row_bytes(stored, n_embd_head * n_head_kv)

    def _pad(self, a: Attention) -> int:
        """The last chunk of K, V and mask, padded."""
        heads = a.layer.n_head_kv * a.n_stream
        k = self._row(a.type_k, a.layer.n_embd_head_k, a.layer.n_head_kv, a.n_rows) * heads
        v = self._row(a.type_v, a.layer.n_embd_head_v, a.layer.n_head_kv, a.n_rows) * heads
        return self.KV_CHUNK * (k + v + F16_BYTES * a.n_rows * a.n_stream)

    def _blocks(self, a: Attention) -> int:
        """One byte for each block of the mask: whether it can be skipped."""
        return pad(-(-a.n_kv // self.KV_CHUNK) * -(-a.n_rows // self.QUERY_CHUNK) * a.n_stream, 32)

    def _partial(self, a: Attention) -> int:
        """What each workgroup of the vector kernel has computed, with its sum and maximum."""
        rows = min(a.n_rows, self.MAX_ROWS) * a.layer.n_head * a.n_stream
        return F32_BYTES * rows * self.WORKGROUPS * (a.layer.n_embd_head_v + 2)

    def _f16(self, a: Attention) -> int:
        """K and V of the layer in f16, reserved also where they are f16 already."""
        return pad(F16_BYTES * a.k_elements, 16) + pad(F16_BYTES * a.v_elements, 16)

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int:
        return I32_BYTES * n_expert * (1 + n_tokens) + 8 + F32_BYTES * self.AMAX_PARTS

    def argsort(self, result: int) -> int:
        return result


_CUDA: Final = _Cuda()
_SCRATCH: Final[dict[BackendName, Scratch]] = {"generic": _None(), "cuda": _CUDA, "rocm": _CUDA, "metal": _Metal()}


def scratch(backend: BackendName) -> Scratch:
    """The scratch of a backend."""
    return _SCRATCH[backend]
