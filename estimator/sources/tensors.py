"""What a tensor's description must be like, in a GGUF header or in a link."""

from __future__ import annotations

import math
from typing import Final

from gguf.constants import GGMLQuantizationType

from estimator.errors import ModelError
from estimator.ggml import block_elements
from estimator.model import Tensor

MAX_NAME_BYTES: Final = 63
"""Length of a tensor name: ``GGML_MAX_NAME`` less its final zero (``ggml/include/ggml.h``, b11434)."""

MAX_DIMS: Final = 4
"""``GGML_MAX_DIMS`` (``ggml/include/ggml.h``, b11434)."""

_INT64_MAX: Final = (1 << 63) - 1


def check_dims(name: str, n_dims: int) -> None:
    """Refuse more dimensions than ggml has.

    Raises:
        ModelError: with the code ``"bad-dimensions"``.
    """
    if n_dims > MAX_DIMS:
        raise ModelError("bad-dimensions", f"the tensor {name!r} has {n_dims:,} dimensions; valid are up to {MAX_DIMS}")


def described(name: str, shape: tuple[int, ...], type_id: int) -> Tensor:
    """A tensor of whole numbers that can be (``ggml/src/gguf.cpp``, b11434).

    Args:
        shape: lengths in ggml's order, at least one.
        type_id: number of the element type in ``ggml_type``.

    Raises:
        ModelError: a length or the type is not valid, or a row does not fill the type's blocks.
    """
    check_dims(name, len(shape))
    if min(shape) < 1 or math.prod(shape) > _INT64_MAX:
        raise ModelError(
            "bad-dimensions",
            f"the tensor {name!r} has the shape {shape}; each dimension must be at least 1, their product below 2^63",
        )
    try:
        element_type = GGMLQuantizationType(type_id)
    except ValueError:
        known = ", ".join(str(known.value) for known in GGMLQuantizationType)
        raise ModelError(
            "unknown-tensor-type", f"the tensor {name!r} has the element type {type_id}; known are {known}"
        ) from None
    block = block_elements(element_type)
    if shape[0] % block:
        raise ModelError(
            "bad-dimensions",
            f"the tensor {name!r} has rows of {shape[0]:,} elements; {element_type.name} needs a multiple of {block}",
        )
    return Tensor(name, shape, element_type)
