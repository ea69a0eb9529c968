"""What a model's weights take in the formats of engines that load checkpoints: which tensors are quantized, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from estimator.engines.packing import F16, Packing, nominal_bits
from estimator.memory.weights import INPUT_LAYER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from estimator.model import Model, Tensor

Role = Literal["embedding", "output", "matrix", "expert", "other"]
"""``embedding``: of tokens. ``output``: the matrix of logits, where it is one of its own. ``matrix``: a projection of a
layer. ``expert``: the same of all experts. ``other``: norms, biases, routers, convolutions: no format narrows them."""

ROLES: Final[tuple[Role, ...]] = ("embedding", "output", "matrix", "expert", "other")

NEVER_NARROWED: Final = ("norm", "ffn_gate_inp", "ssm_conv1d", "ssm_a", "shortconv.conv", "rope_", "attn_sinks")
"""Parts of names of tensors that are no operand of a product worth narrowing, or too fine for it."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A format of weights that an engine loads.

    Args:
        id: short and stable: ``awq``, ``fp8``, ``4bit``.
        label: for people: ``AWQ 4-bit, groups of 128``.
        packing: of a row of a quantized tensor.
        covers: the roles that are quantized; all else stays at two bytes.
        option: what the engine's command line needs to be told, empty where the checkpoint says it.
        note: what to know about it.
        file_types: quantizations of a GGUF file that it is the counterpart of; with any, it stands for no others.
    """

    id: str
    label: str
    packing: Packing
    covers: frozenset[Role] = frozenset({"matrix", "expert"})
    option: str = ""
    note: str = ""
    file_types: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """Bits of one quantized element, with its share of scales."""
        return 8 * self.packing.bytes_per_element(4096)

    def tensor_bytes(self, role: Role, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of a role; ``shape`` is in ggml's order, the length of a row first."""
        packing = self.packing if role in self.covers else F16
        return packing.row_bytes(shape[0]) * prod(shape[1:])


BF16: Final = WeightFormat("bf16", "16-bit, as most checkpoints are", F16, frozenset())
AWQ: Final = WeightFormat(
    "awq", "AWQ or GPTQ 4-bit, groups of 128", Packing(4, 128, 20), note="needs such a checkpoint"
)
NVFP4: Final = WeightFormat("nvfp4", "NVFP4, groups of 16", Packing(4, 16, 8), note="needs such a checkpoint")
MXFP4: Final = WeightFormat(
    "mxfp4",
    "MXFP4 experts",
    Packing(4, 32, 8),
    frozenset({"expert"}),
    note="as gpt-oss is stored",
    file_types=("MXFP4_MOE",),
)
"""Formats of checkpoints, which are the same bytes whoever loads them."""


class Stored(NamedTuple):
    """Bytes of all tensors of a role, and their elements."""

    role: Role
    bytes: int
    n_elements: int


def role(model: Model, tensor: Tensor) -> Role:
    """The role of a tensor, by llama.cpp's name of it and its shape."""
    name = tensor.name_in_stack
    if name.partition(".")[0] in INPUT_LAYER:
        return "embedding" if name.startswith(("token_embd.", "per_layer_token_embd.")) else "other"
    if name == "output.weight":
        return "output"
    is_matrix = name.endswith(".weight") and len(tensor.shape) > 1 and min(tensor.shape) > 1
    if not is_matrix or any(part in name for part in NEVER_NARROWED):
        return "other"
    return "expert" if len(tensor.shape) > 2 and "_exps" in name else "matrix"


@lru_cache(maxsize=1024)
def tensors_of(model: Model, kind: Role) -> tuple[Tensor, ...]:
    """All tensors of a role."""
    return tuple(tensor for tensor in model.tensors if role(model, tensor) == kind)


@lru_cache(maxsize=1024)
def stored(model: Model, format: WeightFormat) -> tuple[Stored, ...]:
    """What the tensors of each role take, without those that nothing loads (layers that predict further tokens)."""
    sizes, elements = dict.fromkeys(ROLES, 0), dict.fromkeys(ROLES, 0)
    for tensor in model.tensors:
        if _is_loaded(model, tensor):
            kind = role(model, tensor)
            sizes[kind] += format.tensor_bytes(kind, tensor.shape)
            elements[kind] += tensor.n_elements
    return tuple(Stored(kind, sizes[kind], elements[kind]) for kind in ROLES if elements[kind])


def beside_text(model: Model) -> int:
    """Weights of a checkpoint that a GGUF of it lacks: encoders of images and sound. They stay at two bytes."""
    if model.checkpoint is None:
        return 0
    # what the converter makes up (RoPE factors) is no weight of the checkpoint
    return max(model.checkpoint.parameters - sum(tensor.n_elements for tensor in model.tensors), 0)


@lru_cache(maxsize=1024)
def nearest_format(formats: tuple[WeightFormat, ...], model: Model) -> WeightFormat:
    """The counterpart of the model's quantization, else that of as many bits, then of the nearest size.

    Bits are those of the names: Q4_K_M is of 4, though it takes nearly 5 of each weight.
    """
    own = sum(tensor.n_bytes for tensor in model.tensors)
    counterparts = [one for one in formats if model.file_type in one.file_types]
    common = [one for one in formats if not one.file_types]
    bits = nominal_bits(model.file_type) if model.file_type else None

    def distance(one: WeightFormat) -> tuple[float, int]:
        size = abs(sum(part.bytes for part in stored(model, one)) - own)
        return 0 if bits is None else abs(float(one.packing.bits) - bits), size

    return min(counterparts or common, key=distance)


def format_of(formats: Iterable[WeightFormat], id: str) -> WeightFormat | None:
    """The format of this id."""
    return next((one for one in formats if one.id == id), None)


def _is_loaded(model: Model, tensor: Tensor) -> bool:
    part, _, rest = tensor.name_in_stack.partition(".")
    return part != "blk" or int(rest.partition(".")[0]) < model.n_layer
