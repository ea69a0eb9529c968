"""Blocks of LMDeploy's cache: some tokens of all layers, on each device (0.16.0).

Files are those of the wheel, below lmdeploy; TurboMind's of its repository, below src/turbomind. Both engines cache the
whole context in all layers: the PyTorch engine drops what left a window only where all layers have the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.engines.layout import counts, layout, shown
from estimator.engines.lmdeploy_tables import backend, max_batch_size

if TYPE_CHECKING:
    from estimator.engines.base import Job
    from estimator.engines.layout import Cached

FP8_DS_MLA: Final = 656
"""Bytes of a row of 512 + 64: 8 bits with four scales of 4 B, and the rotated part at 16 (cache_engine.py:202-203)."""

MOST_PACKED: Final = 512
"""Heads from so many elements on have blocks of 32 tokens, unless FlashMLA runs (executor/base.py:249-272)."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The cache of each device.

    Args:
        tokens: of a block.
        bytes: of a block of all layers.
        state: bytes of all recurrent states of one sequence.
        states: slots of states that are made at the start; 0: one with each request, from the same pool.
        explain: what a block is made of.
    """

    tokens: int
    bytes: int
    state: int
    states: int
    explain: str

    def of(self, n_ctx: int) -> int:
        """Blocks of a request of a length."""
        return -(-n_ctx // self.tokens)

    @property
    def pooled_state(self) -> int:
        """Bytes of a request's states in the pool of blocks."""
        return 0 if self.states else self.state

    def request(self, n_ctx: int) -> int:
        """Bytes of the pool that a request of a length takes."""
        return self.of(n_ctx) * self.bytes + self.pooled_state


def blocks_of(job: Job) -> Blocks:
    """The blocks of the engine that runs it."""
    tokens = int(str(job.options["cache_block_seq_len"]))
    is_pytorch = backend(job) == "pytorch"
    version = job.devices[0].compute_capability
    widest = max((cached.n_embd_head_k for cached in layout(job.model)), default=0)
    if is_pytorch and widest >= MOST_PACKED and version is not None and version < (9, 0):
        tokens = min(tokens, 32)
    size, texts = 0, []
    for cached, n_layer in counts(job.model).items():
        if cached.attention != "none":
            parts = _of_layer(job, cached, tokens)
            each = sum(-(-part // 256) * 256 for part in parts) if is_pytorch else sum(parts)
            size += n_layer * each
            texts.append(f"{n_layer} layers x {each:,} B ({shown(cached)})")
        if cached.n_indexer:
            # fp8 keys and a scale of four bytes (configurations/deepseek_v32.py:28-52)
            each = tokens * (cached.n_indexer + 4)
            size += n_layer * each
            texts.append(f"{n_layer} x {each:,} B of indexers")
    state = sum(n_layer * _state(job, cached) for cached, n_layer in counts(job.model).items())
    states = max_batch_size(job) + 2 if state and is_pytorch else 0
    return Blocks(tokens, size, state, states, " + ".join(texts))


def _of_layer(job: Job, cached: Cached, tokens: int) -> tuple[int, ...]:
    """Bytes of K, of V and of their scales in one layer of a block (cache_engine.py:318-438, TurboMind's block.h)."""
    if cached.attention == "latent":
        row = FP8_DS_MLA if job.type_k.id == "fp8" else 2 * cached.n_embd_head_k
        return (tokens * row,)
    rows = tokens * cached.heads_of(len(job.devices))
    k, v = job.type_k.k, job.type_v.v
    data = (rows * cached.n_embd_head_k * k.bits // 8, rows * cached.n_embd_head_v * v.bits // 8)
    scales = (rows * k.extra_bits // 8, rows * v.extra_bits // 8)
    return tuple(int(part) for part in (*data, *scales))


def _state(job: Job, cached: Cached) -> int:
    """A state of one layer, at 16 bits (LMDEPLOY_FP32_MAMBA_SSM_DTYPE makes it 32).

    The convolution keeps all its taps, llama.cpp's one less (configurations/qwen3_5.py:56-76).
    """
    if not cached.is_recurrent:
        return 0
    taps = next(tensor.shape[0] for tensor in job.model.tensors if tensor.name.endswith(".ssm_conv1d.weight"))
    n_conv = cached.n_conv * taps // (taps - 1)
    return -(-(n_conv + cached.n_state) * 2 // len(job.devices))
