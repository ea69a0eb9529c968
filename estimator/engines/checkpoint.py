"""What engines of checkpoints have in common: weights as they are loaded, the widest layer, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.companions import ALONE
from estimator.engines.weights import ROLES, beside_text, stored
from estimator.errors import SettingsError
from estimator.lines import Basis, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from estimator.engines.base import Job
    from estimator.engines.weights import Role
    from estimator.layer import Layer
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


def weight_parts(job: Job, roles: Collection[Role] = ROLES) -> Iterator[Parts]:
    """What each device holds of the weights of these roles, in the format of the job.

    Tensor parallelism cuts matrices and rows of the vocabulary; all else is on every device.
    """
    form, n_devices = job.format, len(job.devices)
    assert form
    for part in stored(job.model, form):
        if part.role in roles:
            cut = 1 if part.role == "other" else n_devices
            kept = f"{form.label}: {form.packing}" if part.role in form.covers else "16 bits"
            explain = f"{part.n_elements:,} elements, {kept}" + (f", over {n_devices} devices" if cut > 1 else "")
            yield "weights", NAMES[part.role], -(-part.bytes // cut), "modelled", explain


def encoder_parts(job: Job) -> Iterator[Parts]:
    """Encoders of images and sound that a checkpoint holds beside the text model."""
    if beside := beside_text(job.model):
        yield "weights", "Encoders", beside * 2, "modelled", f"{beside:,} weights beside the text model, 16 bits"


def absorbed(model: Model) -> int:
    """Elements of the matrices of latent attention, for engines that keep them a second time by head."""
    return sum(tensor.n_elements for tensor in model.tensors if tensor.name.endswith(ABSORBED))


def activations(model: Model, tokens: int) -> tuple[int, str]:
    """Results of one layer that are alive at once for a batch of tokens, at two bytes: residual, hidden state, widest.

    From how layers are written, not from a measurement.
    """
    wide = max((widest(layer) for layer in model.kinds), default=0)
    explain = f"{tokens:,} tokens x (2 x {model.n_embd:,} + {wide:,}) x 2 B in the widest layer; not measured"
    return tokens * (2 * model.n_embd + wide) * 2, explain


def widest(layer: Layer) -> int:
    """Elements of one token that are alive at once in the widest place of a layer."""
    if layer.n_expert:
        ff = layer.n_expert_used * (max(2 * layer.n_ff, 0) + layer.n_ff) + 3 * layer.n_ff_shexp
    else:
        ff = 3 * layer.n_ff
    attention = layer.n_head * (2 * layer.n_embd_head_k) + layer.n_embd_k_gqa + layer.n_embd_v_gqa
    return max(ff, attention)


def taps(model: Model) -> int:
    """Taps of the convolutions of recurrent layers, 0 without any.

    llama.cpp keeps all columns of a state but the one to come; PyTorch's engines keep that one too.
    """
    shapes = (tensor.shape[0] for tensor in model.tensors if "conv" in tensor.name and tensor.name.endswith(".weight"))
    return next(shapes, 0)


def columns(model: Model, n_conv: int) -> int:
    """Elements of a convolution's state with the column to come, of ``n_conv`` without it."""
    n = taps(model)
    return n_conv * n // (n - 1) if n > 1 else n_conv


def words(text: str) -> frozenset[str]:
    """Words of a text: a table of names that reads as one."""
    return frozenset(text.split())


def refuse_unknown(job: Job, name: str, known: Collection[str]) -> None:
    """Architectures that an engine is not known to have code for, and what is loaded beside a model.

    Raises:
        SettingsError: ``not-in-engine`` or ``not-modelled``.
    """
    if job.model.architecture not in known:
        message = f"{job.model.architecture} is not among the architectures of {name} that are known here"
        raise SettingsError("not-in-engine", message, field="engine")
    if job.companions != ALONE:
        message = f"drafts, projectors and adapters are not modelled for {name}"
        raise SettingsError("not-modelled", message, field="engine")
    if not job.model.traits.cached:
        message = f"{job.model.name} caches nothing: {name} is modelled for models that generate text"
        raise SettingsError("not-modelled", message, field="engine")
