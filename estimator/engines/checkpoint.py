"""Weights of a checkpoint on devices that share its layers (tensor parallelism), line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.engines.weights import beside_text, stored
from estimator.lines import Basis, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from estimator.engines.weights import Role, WeightFormat
    from estimator.model import Model

Parts = tuple[Kind, str, int, Basis, str]
"""A line of each device, without its label."""

NAMES: Final[Mapping[Role, str]] = {
    "embedding": "Embedding",
    "output": "Output matrix",
    "matrix": "Matrices of layers",
    "expert": "Experts",
    "other": "Norms, routers, biases",
}

ABSORBED: Final = (".attn_k_b.weight", ".attn_v_b.weight", ".attn_kv_b.weight")
"""The matrices that latent attention multiplies Q and its own result with."""


def weight_parts(model: Model, form: WeightFormat, n_devices: int) -> Iterator[Parts]:
    """What each device holds: matrices and rows of the vocabulary are cut, all else is on every device."""
    for part in stored(model, form):
        cut = 1 if part.role == "other" else n_devices
        kept = f"{form.label}: {form.packing}" if part.role in form.covers else "16 bits"
        explain = f"{part.n_elements:,} elements, {kept}" + (f", over {n_devices} devices" if cut > 1 else "")
        yield "weights", NAMES[part.role], -(-part.bytes // cut), "modelled", explain
    if beside := beside_text(model):
        yield "weights", "Encoders", beside * 2, "modelled", f"{beside:,} weights beside the text model, 16 bits"


def absorbed(model: Model) -> int:
    """Elements of the matrices of latent attention, for engines that keep them a second time by head."""
    return sum(tensor.n_elements for tensor in model.tensors if tensor.name.endswith(ABSORBED))
