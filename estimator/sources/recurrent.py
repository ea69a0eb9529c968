"""Layers that keep a recurrent state: their keys, and how long a state is (llama-hparams.cpp:207-260, b11434)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError

if TYPE_CHECKING:
    from estimator.sources.hparams import Facts

MAX_CONV: Final = 1024
"""Our bound on the taps of a convolution: models have 3 or 4."""

UNSAID: Final = -1
"""Stands for a key that the header does not have."""


@dataclass(frozen=True, slots=True)
class StateSpace:
    """The ``ssm.*`` keys, in llama.cpp's names (``ssm_d_conv`` and so on). ``dt_rank`` may be a number of heads."""

    d_conv: int
    d_inner: int
    d_state: int
    dt_rank: int
    n_group: int

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution."""
        return self.d_inner + 2 * self.n_group * self.d_state

    @property
    def n_embd_r(self) -> int:
        """Elements of one sequence that the convolution looks back at."""
        return (self.d_conv - 1) * self.conv_dim

    @property
    def n_embd_s(self) -> int:
        """Elements of the state of one sequence."""
        return self.d_state * self.d_inner


def state_space(facts: Facts, *, grouped: bool = True) -> StateSpace:
    """The keys of a state space; one that is not ``grouped`` has no ``ssm.group_count``.

    Raises:
        ModelError: a key is missing or out of range.
    """
    hparams = facts.hparams
    return StateSpace(
        d_conv=hparams.whole("ssm.conv_kernel", low=1, high=MAX_CONV),
        d_inner=hparams.whole("ssm.inner_size", low=1),
        d_state=hparams.whole("ssm.state_size", low=1),
        dt_rank=hparams.whole("ssm.time_step_rank", low=1),
        n_group=hparams.whole("ssm.group_count", low=1) if grouped else 0,
    )


def recurrent_by_interval(facts: Facts, default: int) -> tuple[bool, ...]:
    """Which layers are recurrent: the file says so, for each or for all, else all but every so-many-th are.

    Source: qwen3next.cpp:17-23, and the same lines elsewhere.
    """
    hparams = facts.hparams
    flags = hparams.flags("attention.recurrent_layers")
    if flags is not None:
        return flags
    for_all = hparams.whole("attention.recurrent_layers", UNSAID, high=1)
    if for_all != UNSAID:
        return (bool(for_all),) * hparams.n_layer
    interval = hparams.whole("full_attention_interval", default, low=1)
    return tuple((il + 1) % interval != 0 for il in range(hparams.n_layer))


def check_shape(facts: Facts, il: int, name: str, shape: tuple[int, ...]) -> None:
    """A weight of layer ``il`` must have the shape that the keys say: llama.cpp does not load the model otherwise.

    Raises:
        ModelError: it has another, or is missing.
    """
    tensor = f"blk.{il}.{name}.weight"
    found = facts.shapes.get(tensor)
    if found is None or _trimmed(found) != _trimmed(shape):
        raise ModelError("bad-shape", f"{tensor} should have the shape {shape}; it has {found or 'none'}", field=tensor)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the dimensions of 1 at its end, which need not be written."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape
