"""Memory that a backend adds to single operations: fleeting data that lies behind the result in the compute buffer.

Each backend answers the same questions. Shapes are those of one attention layer: ``n_kv`` cells a stream, ``n_rows``
query rows a stream, ``n_stream`` streams. All sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from estimator.ggml import ElementType, pad, row_bytes

if TYPE_CHECKING:
    from estimator.devices import BackendName

F16_BYTES: Final = 2
F32_BYTES: Final = 4
I32_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Attention:
    """The operands of one flash-attention operation. ``v_in_k``: V is a view of K.

    Of the ``n_kv`` cells each query sees ``n_kv_max`` at most where an indexer chose them, else 0 tells nothing.
    """

    n_head: int
    n_head_kv: int
    n_embd_head_k: int
    n_embd_head_v: int
    type_k: ElementType
    type_v: ElementType
    n_kv: int
    n_rows: int
    n_stream: int
    v_in_k: bool = False
    n_kv_max: int = 0

    @property
    def k_elements(self) -> int:
        return self.n_kv * self.n_stream * self.n_head_kv * self.n_embd_head_k

    @property
    def v_elements(self) -> int:
        """Of V itself: none where it is a view of K."""
        return 0 if self.v_in_k else self.n_kv * self.n_stream * self.n_head_kv * self.n_embd_head_v

    @property
    def k_bytes(self) -> int:
        return row_bytes(self.type_k, self.k_elements)

    @property
    def v_bytes(self) -> int:
        return row_bytes(self.type_v, self.v_elements)


class Scratch(Protocol):
    """What a backend needs behind the result of an operation, in bytes."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        """For flash attention; ``result`` is the size of its result."""

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int:
        """For a product with the chosen ones of ``n_expert`` matrices."""

    def argsort(self, result: int) -> int:
        """For sorting; ``result`` is the size of its result."""

    def top_k(self, scores: int, result: int) -> int:
        """For choosing the highest of each row of ``scores``; ``result`` is the size of its result."""


class _None:
    """A device that adds nothing: llama.cpp's own answer, as the RPC backend gives it."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        return 0

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int:
        return 0

    def argsort(self, result: int) -> int:
        return 0

    def top_k(self, scores: int, result: int) -> int:
        return 0


class _Cuda(_None):
    """CUDA and HIP: an f16 copy of K and of V where they are not f16 (ggml-cuda/fattn.cu:722-757, b11434).

    The matrix kernels read f16. Only a single row of queries may go to the vector kernel, which reads the cache as it
    is (fattn.cu:643-719; two rows on some cards). An f32 side was cast to f16 before (llama-graph.cpp:2727-2733).
    """

    ALIGNMENT: Final = 128

    def flash_attn(self, attention: Attention, result: int) -> int:
        if attention.n_rows == 1:
            return 0
        end = result
        if attention.type_k not in (ElementType.F16, ElementType.F32):
            end = pad(end, self.ALIGNMENT) + F16_BYTES * attention.k_elements
        if not attention.v_in_k and attention.type_v not in (ElementType.F16, ElementType.F32):
            end = pad(end, self.ALIGNMENT) + F16_BYTES * attention.v_elements
        return end - result


class Metal(_None):
    """Metal: reserved whatever the types are (ggml-metal/ggml-metal-ops.cpp:3073-3376 and ggml-metal.cpp:220-255)."""

    KV_CHUNK: Final = 64
    """``OP_FLASH_ATTN_EXT_NCPSG``: cache rows of one step; 32 in the vector kernel."""
    QUERY_CHUNK: Final = 8
    """``OP_FLASH_ATTN_EXT_NQPSG``: query rows of one threadgroup; 1 in the vector kernel."""
    VECTOR_ROWS: Final = 20
    """Fewer rows of queries use the vector kernel, if the head size is a multiple of 32."""
    F16_ROWS: Final = 32
    """From so many rows of queries on, a quantized cache is read from its f16 copy."""
    F16_TYPES: ClassVar = frozenset(
        {ElementType.Q4_0, ElementType.Q4_1, ElementType.Q5_0, ElementType.Q5_1, ElementType.Q8_0}
    )
    WORKGROUPS: Final = 32
    MAX_ROWS: Final = 32
    MAX_INDICES: Final = 4096
    SPARSE_SIZES: Final = frozenset(
        {(n, n) for n in (32, 64, 96, 128, 192, 256, 512)} | {(96, 64), (192, 128), (320, 256), (576, 512)}
    )
    """Head sizes of K and V for which the vector kernel can be told which cells to read."""
    AMAX_PARTS: Final = 256
    """``N_MM_NPART_AMAX``."""

    def flash_attn(self, attention: Attention, result: int) -> int:
        parts = (self._pad, self._blocks, self._partial, self._f16, self._indices)
        return sum(part(attention) for part in parts)

    def _pad(self, a: Attention) -> int:
        """The last chunk of K, V and mask, padded."""
        heads = a.n_head_kv * a.n_stream
        k = self._row(a, a.type_k, a.n_embd_head_k) * heads
        v = k if a.v_in_k else self._row(a, a.type_v, a.n_embd_head_v) * heads
        return self.KV_CHUNK * (k + v + F16_BYTES * a.n_rows * a.n_stream)

    def _row(self, a: Attention, element_type: ElementType, n_embd_head: int) -> int:
        """Bytes from one cell to the next: of one head in a copy, of all heads in the cache."""
        reads_copies = a.type_k in self.F16_TYPES and a.n_rows >= self.F16_ROWS
        if reads_copies or element_type is ElementType.F32:
            return F16_BYTES * n_embd_head
        return row_bytes(element_type, n_embd_head * a.n_head_kv)

    def _blocks(self, a: Attention) -> int:
        """One byte for each block of the mask: whether it can be skipped."""
        is_vector = a.n_rows < self.VECTOR_ROWS and a.n_embd_head_k % 32 == 0
        rows, cells = (1, 32) if is_vector else (self.QUERY_CHUNK, self.KV_CHUNK)
        return pad(-(-a.n_kv // cells) * -(-a.n_rows // rows) * a.n_stream, 32)

    def _partial(self, a: Attention) -> int:
        """What each workgroup of the vector kernel has computed, with its sum and maximum."""
        rows = min(a.n_rows, self.MAX_ROWS) * a.n_head * a.n_stream
        return F32_BYTES * rows * self.WORKGROUPS * (a.n_embd_head_v + 2)

    def _f16(self, a: Attention) -> int:
        """K and V of the layer in f16, reserved also where they are f16 already."""
        return pad(F16_BYTES * a.k_elements, 16) + pad(F16_BYTES * a.v_elements, 16)

    def _indices(self, a: Attention) -> int:
        """The cells that each query sees, if they are few."""
        sizes = (a.n_embd_head_k, a.n_embd_head_v)
        if not 0 < a.n_kv_max <= self.MAX_INDICES or sizes not in self.SPARSE_SIZES or a.type_k is ElementType.IQ4_NL:
            return 0
        return pad(I32_BYTES * pad(a.n_kv_max, 32) * a.n_rows * a.n_stream, 16)

    def mul_mat_id(self, n_expert: int, n_tokens: int) -> int:
        return I32_BYTES * n_expert * (1 + n_tokens) + 8 + F32_BYTES * self.AMAX_PARTS

    def argsort(self, result: int) -> int:
        return result

    def top_k(self, scores: int, result: int) -> int:
        return 2 * scores - result


_CUDA: Final = _Cuda()
_SCRATCH: Final[dict[BackendName, Scratch]] = {"generic": _None(), "cuda": _CUDA, "rocm": _CUDA, "metal": Metal()}


def scratch(backend: BackendName) -> Scratch:
    """The scratch of a backend."""
    return _SCRATCH[backend]
