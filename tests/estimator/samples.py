"""Small models made by hand, for tests that follow a number through the memory model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator.devices import Device
from estimator.ggml import ElementType
from estimator.layer import Layer
from estimator.model import Model, Tensor

if TYPE_CHECKING:
    from estimator.backends import BackendName


def layer(**facts: Any) -> Layer:
    """A layer of Llama 3.1 8B's shape, but for the ``facts``."""
    shape = {"n_head": 32, "n_head_kv": 8, "n_embd_head_k": 128, "n_embd_head_v": 128, "n_swa": 0, "n_ff": 14336}
    return Layer(**{**shape, **facts})


def model(*layers: Layer, **facts: Any) -> Model:
    """A model of these layers, each with 1 MiB of weights; an embedding of 8 MiB and an output matrix of 8 MiB."""
    vocabulary = tuple(Tensor(f"{name}.weight", (4096, 1024), ElementType.F16) for name in ("token_embd", "output"))
    blocks = tuple(Tensor(f"blk.{il}.attn_q.weight", (4096, 128), ElementType.F16) for il in range(len(layers)))
    known = {"architecture": "llama", "name": "sample", "context_length": 8192, "n_embd": 4096, "n_vocab": 1024}
    return Model(**{**known, "layers": layers, "tensors": vocabulary + blocks, **facts})


def device(backend: BackendName = "cuda", capacity: int | None = None, **facts: Any) -> Device:
    """A device of a backend."""
    return Device(**{"id": "sample", "name": "Sample", "backend": backend, "capacity": capacity, **facts})
