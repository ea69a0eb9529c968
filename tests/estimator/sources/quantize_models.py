"""Small models for the tests of quantize()."""

from __future__ import annotations

from typing import Any

from estimator.ggml import ElementType
from estimator.layer import Layer
from estimator.model import Model, Tensor
from estimator.sources.quantize import quantize

T = ElementType


def model_of(
    tensors: list[Tensor],
    *,
    n_layer: int,
    architecture: str = "llama",
    n_head: int = 32,
    n_head_kv: int = 8,
    n_expert: int = 0,
) -> Model:
    layer = Layer(
        n_head=n_head, n_head_kv=n_head_kv, n_embd_head_k=128, n_embd_head_v=128, n_swa=0, n_ff=1024, n_expert=n_expert
    )
    return Model(
        architecture=architecture,
        name="test",
        context_length=4096,
        n_embd=4096,
        n_vocab=1024,
        layers=(layer,) * n_layer,
        tensors=tuple(tensors),
        file_type="BF16",
    )


def matrix(name: str, *shape: int, element_type: ElementType = T.BF16) -> Tensor:
    return Tensor(name, shape or (4096, 1024), element_type)


def types_of(model: Model, file_type: str) -> dict[str, str]:
    return {tensor.name: tensor.type.name for tensor in quantize(model, file_type).tensors}


def layers_of(name: str, n_layer: int, file_type: str, **facts: Any) -> str:
    """Types of a tensor over the layers: one letter a layer, the digit of Q4_K."""
    tensors = [matrix(f"blk.{i}.{name}.weight") for i in range(n_layer)]
    tensors += [matrix("output.weight")]
    quantized = quantize(model_of(tensors, n_layer=n_layer, **facts), file_type)
    return "".join(tensor.type.name[1] for tensor in quantized.tensors if tensor.name.startswith("blk."))
