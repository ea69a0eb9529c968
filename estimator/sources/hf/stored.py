"""What the tensors of a checkpoint hold: bytes, and the weights behind quantized ones.

A quantized checkpoint stores a weight as several tensors: packed numbers with scales, zero points and indices beside.
Names and packing are those that llama.cpp's converter undoes (conversion/base.py:326-600, b11434) and, for AWQ,
bitsandbytes and MLX, those of their own writers (``WQLinear_GEMM``, ``Linear4bit``, ``QuantizedLinear``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.sources.hf.config import Config, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

Tensors = Mapping[str, tuple[str, Sequence[int]]]
"""Tensors by name: the dtype as safetensors writes it, and the shape as torch has it (rows first)."""

BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of an element (safetensors 0.8, ``Dtype``)."""

MAX_TENSORS: Final = 2**20
MAX_NAME: Final = 512
MAX_DIMS: Final = 8
MAX_EXTENT: Final = 2**40

_BESIDE: Final = re.compile(
    r"\.(qzeros|scales|g_idx|SCB|weight_format|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[\w.]+"
    r"|weight_(scale|scale_inv|scale_2|global_scale|zero_point|shape|g_idx)|weight\.(absmax|quant_map|nested_absmax"
    r"|nested_quant_map|quant_state\.[\w.]+)|(input|output)_(scale|global_scale|zero_point)|[kqv]_scale"
    r"|activation_scale|qscale_(weight|act))$|_(scale_inv|activation_scale)$"
)
"""Tensors that say how others are quantized."""

_NO_WEIGHT: Final = (".rotary_emb.inv_freq", ".masked_bias", ".position_ids", ".attn.bias", ".attention.bias")
"""Buffers that older checkpoints store: masks, positions, frequencies; ``bias`` only where it is a mask."""

METHODS: Final = (
    *("fp8", "fbgemm_fp8", "modelopt", "nvfp4", "mxfp4", "compressed-tensors", "quark"),
    *("gptq", "awq", "auto-round", "bitsandbytes", "bitnet", "mlx"),
)
"""Values of ``quant_method`` whose packing is known; MLX writes none."""

_PACKERS: Final = frozenset({"I8", "U8", "I32", "U32"})
"""Integers that quantized numbers are packed into."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the checkpoint. ``shape`` is as torch has it, None where it is packed in a way that hides it."""

    n_elements: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Stored:
    """All tensors of a checkpoint: what they take, and the weights by their names before quantization."""

    n_bytes: int
    weights: Mapping[str, Weight]


def read_tensors(tensors: object, config: Config) -> Stored:
    """What the tensors of a checkpoint hold.

    Args:
        tensors: by name, their dtype and shape; checked here.
        config: for its ``quantization_config``.

    Raises:
        ModelError: a tensor makes no sense, or is packed in a way that is not known.
    """
    known = _checked(tensors)
    n_bytes = sum(-(-BITS[dtype] * math.prod(shape) // 8) for dtype, shape in known.values())
    packing = Packing(config)
    packing.check()
    return Stored(n_bytes, dict(_weights(known, packing)))


def _checked(tensors: object) -> dict[str, tuple[str, tuple[int, ...]]]:
    if not isinstance(tensors, Mapping) or not tensors or len(tensors) > MAX_TENSORS:
        raise ModelError(
            "bad-safetensors",
            f"safetensors must map from 1 to {MAX_TENSORS:,} tensor names to (dtype, shape)",
            field="safetensors",
        )
    return {_name(name): _entry(name, entry) for name, entry in tensors.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ModelError(
            "bad-safetensors", f"a tensor's name must be a string of up to {MAX_NAME} characters", field="safetensors"
        )
    return name


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...]]:
    """A tensor's dtype and shape."""
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        raise _bad(name, "a dtype and a shape")
    dtype, shape = entry
    if not isinstance(dtype, str) or dtype.upper() not in BITS:
        raise ModelError(
            "unknown-dtype",
            f"the tensor {name[:100]!r} has the dtype {shown(dtype)}; known are {', '.join(BITS)}",
            field=name[:100],
            allowed=tuple(BITS),
        )
    if not isinstance(shape, list | tuple) or len(shape) > MAX_DIMS:
        raise _bad(name, f"a shape of up to {MAX_DIMS} whole numbers")
    for extent in shape:
        if isinstance(extent, bool) or not isinstance(extent, int) or not 0 <= extent <= MAX_EXTENT:
            raise _bad(name, f"a shape of whole numbers up to {MAX_EXTENT:,}")
    if math.prod(shape) > MAX_EXTENT:
        raise _bad(name, f"at most {MAX_EXTENT:,} elements")
    return dtype.upper(), tuple(shape)


def _bad(name: str, allowed: str) -> ModelError:
    return ModelError("bad-tensor", f"the tensor {name[:100]!r} must have {allowed}", field=name[:100], allowed=allowed)


class Packing:
    """How a checkpoint is quantized, by ``quantization_config``, or by MLX's ``quantization``."""

    def __init__(self, config: Config) -> None:
        section = config.section("quantization_config", "compression_config", "quantization")
        self._section = section
        method = section.text("quant_method") if section else None
        self.is_mlx = section is not None and method is None and section.has("group_size", "mode")
        self.method = "mlx" if self.is_mlx else method

    def check(self) -> None:
        """Refuse a method whose packing is not known.

        Raises:
            ModelError: it is none of ``METHODS``.
        """
        if self.method is not None and self.method not in METHODS:
            raise ModelError(
                "unknown-quantization",
                f"quant_method is {shown(self.method)}: how it packs weights is not known; known are "
                f"{', '.join(METHODS)}",
                field="quant_method",
                allowed=METHODS,
            )

    @property
    def name(self) -> str | None:
        """What people call it: the method, with the format where several share it. None without one."""
        if self._section is None:
            return None
        detail = self._section.value("quant_algo", "format", "quant_type")
        parts = [self.method or "unnamed", *([detail] if isinstance(detail, str) and detail != self.method else [])]
        return " ".join(part[:32] for part in parts)

    def bits(self, name: str) -> int:
        """Bits of a packed number.

        Raises:
            ModelError: the config does not say, or not the same for all.
        """
        section = self._section
        if section is not None and section.has("bits", "w_bit"):
            return section.whole("bits", "w_bit", low=1, high=16)
        groups = section.section("config_groups") if section is not None else None
        found = set()
        for group in groups.names() if groups is not None else ():
            weights = (groups.section(group) or Config({})).section("weights") if groups else None
            found.add(weights.whole("num_bits", low=1, high=16) if weights else None)
        if len(found) != 1 or (only := found.pop()) is None:
            raise self.unknown(name)
        return only

    def group_size(self, module: str) -> int:
        """Weights that share a scale in MLX: of a module, where it has a group size of its own."""
        section = self._section or Config({})
        own = section.value(module)
        return (Config(own) if isinstance(own, Mapping) else section).whole(
            "group_size", default=section.whole("group_size", default=64, low=1), low=1, high=2**20
        )

    def unknown(self, name: str) -> ModelError:
        """The refusal of a tensor that is packed in a way that is not known."""
        how = f"quant_method is {shown(self.method)}" if self.method else "the config has no quantization_config"
        return ModelError(
            "unknown-quantization",
            f"how the tensor {name[:100]!r} is packed is not known ({how}); known are {', '.join(METHODS)}",
            field="quantization_config",
        )


def _weights(tensors: Mapping[str, tuple[str, tuple[int, ...]]], packing: Packing) -> Iterator[tuple[str, Weight]]:
    for name, (dtype, shape) in tensors.items():
        if not name.endswith(".weight") and (_is_no_weight(name, shape) or _is_beside(name, tensors)):
            continue
        yield _weight(name, dtype, shape, tensors, packing)


def _is_no_weight(name: str, shape: tuple[int, ...]) -> bool:
    return name.endswith(_NO_WEIGHT) and (not name.endswith(".bias") or len(shape) > 2 or not shape)


def _is_beside(name: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bool:
    """Whether a tensor only says how another is quantized."""
    if _BESIDE.search(name):
        return True
    base, _, last = name.rpartition(".")
    if last == "biases":
        return f"{base}.scales" in tensors
    if last == "scale":
        dtype, _ = tensors.get(f"{base}.weight", ("F32", ()))
        return BITS[dtype] <= 8
    return last.endswith("_scales") and f"{base}.{last.removesuffix('scales')}blocks" in tensors


def _weight(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    packing: Packing,
) -> tuple[str, Weight]:
    """The weight that a tensor holds, by the name that it has unpacked."""
    n_stored, bits = math.prod(shape), BITS[dtype]
    if dtype not in _PACKERS:
        return name, Weight(n_stored, shape)
    base = name.rpartition(".")[0]
    if name.endswith(".qweight") or (name.endswith(".weight_packed") and dtype == "I32"):
        return f"{base}.weight", Weight(n_stored * bits // packing.bits(name), None)
    if name.endswith(".weight_packed"):
        return f"{base}.weight", Weight(2 * n_stored, None)
    if name.endswith("_blocks") and f"{name.removesuffix('blocks')}scales" in tensors:
        return name.removesuffix("_blocks"), Weight(2 * n_stored, None)
    if not shape:
        return name, Weight(n_stored, shape)
    if dtype == "U32" and f"{base}.scales" in tensors:
        _, scales = tensors[f"{base}.scales"]
        rows = math.prod(shape[:-1])
        return name, Weight(rows * (scales[-1] if scales else 0) * packing.group_size(base), None)
    return name, Weight(n_stored * _packed_in_byte(name, dtype, tensors, packing), None)


def _packed_in_byte(name: str, dtype: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]], packing: Packing) -> int:
    """How many numbers a byte of a weight holds.

    Raises:
        ModelError: nothing beside the weight says so.
    """
    base = name.removesuffix(".weight")
    if base == name or BITS[dtype] != 8:
        raise packing.unknown(name)
    if any(f"{name}.quant_state.bitsandbytes__{kind}" in tensors for kind in ("nf4", "fp4")):
        return 2
    if f"{base}.SCB" in tensors:
        return 1
    if packing.method == "bitnet":
        return 4
    scale = tensors.get(f"{base}.weight_scale") or tensors.get(f"{base}.scale")
    if scale is None:
        raise packing.unknown(name)
    is_blocks = len(scale[1]) > 1 and scale[1][-1] > 1
    return 2 if (is_blocks and dtype == "U8") or scale[0] == "F8_E8M0" else 1
