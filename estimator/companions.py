"""What is loaded beside a model: a draft, the projector of images or sound, LoRA adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from estimator.errors import FathomError, SettingsError
from estimator.ggml import ElementType
from estimator.model import Tensor
from estimator.settings import MAX_N_BATCH, Settings

if TYPE_CHECKING:
    from estimator.memory.context import Context
    from estimator.model import Model

MAX_ADAPTERS: Final = 16
"""Our bound on LoRA adapters of one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A small model that proposes tokens, as ``-md MODEL --spec-type draft-simple`` runs it.

    Args:
        model: the draft model.
        n_max: ``--spec-draft-n-max``, tokens proposed at once (common.h:329).
        cache_type_k: ``-ctkd``.
        cache_type_v: ``-ctvd``.
        n_gpu_layers: ``-ngld``; -1 = all.

    Raises:
        SettingsError: a value is out of range.
    """

    model: Model
    n_max: int = 3
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    n_gpu_layers: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.n_max, bool) or not isinstance(self.n_max, int) or not 0 <= self.n_max < MAX_N_BATCH:
            allowed = f"a whole number from 0 to {MAX_N_BATCH - 1:,}"
            message = f"draft.n_max is {str(self.n_max)[:40]}; it must be {allowed}"
            raise SettingsError("out-of-range", message, field="draft.n_max", allowed=allowed)
        Settings(cache_type_k=self.cache_type_k, cache_type_v=self.cache_type_v, n_gpu_layers=self.n_gpu_layers)

    def of_target(self, settings: Settings) -> Settings:
        """How the model is run whose tokens are drafted: with logits for each drafted one.

        ``min(n_batch, n_parallel * (1 + n_max))`` rows (speculative.cpp:2667-2676).
        """
        if settings.n_outputs is not None:
            return settings
        return replace(settings, n_outputs=min(settings.n_batch, settings.n_seq_max * (1 + self.n_max)))

    def settings(self, settings: Settings, context: Context) -> Settings:
        """How the draft itself is run, given the settings and the context of the model that it drafts for.

        As that model but for its cache types, its layers on devices and a row of logits a slot; no tensors are kept on
        the host, and the context is as long (speculative.cpp:2527-2582 and 2593-2625).
        """
        return replace(
            settings,
            n_ctx=context.n_ctx,
            n_outputs=context.n_seq_max,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            n_gpu_layers=self.n_gpu_layers,
            cpu_tensors=None,
        )


@dataclass(frozen=True, eq=False)
class Projector:
    """What turns images or sound into embeddings, as ``--mmproj`` loads it. Compared and hashed by identity."""

    name: str
    tensors: tuple[Tensor, ...]

    @classmethod
    def of_size(cls, n_bytes: int) -> Projector:
        """A projector of which only the size of its file in bytes is known."""
        return cls("projector", (Tensor("file", (n_bytes,), ElementType.I8),))

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter, as ``--lora`` loads it. Compared and hashed by identity.

    ``pairs``: for each adapted tensor of the model its A (``[n_in, rank]``) and B (``[rank, n_out]``).
    """

    name: str
    architecture: str
    pairs: dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """All that is loaded beside a model.

    Args:
        draft: a model that proposes tokens.
        projector: of images or sound.
        offload_projector: False = ``--no-mmproj-offload``, it is computed on the host.
        adapters: LoRA adapters, all loaded at once.

    Raises:
        SettingsError: too many adapters.
    """

    draft: Draft | None = None
    projector: Projector | None = None
    offload_projector: bool = True
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        if len(self.adapters) > MAX_ADAPTERS:
            allowed = f"at most {MAX_ADAPTERS} adapters"
            message = f"adapters are {len(self.adapters)}; {allowed} can be loaded"
            raise SettingsError("too-many-adapters", message, field="adapters", allowed=allowed)


ALONE: Final = Companions()
"""Nothing beside the model."""


def of_draft(error: FathomError) -> SettingsError:
    """A refusal of the draft, not of the model itself."""
    return SettingsError(error.code, f"draft: {error.message}", field="draft", allowed=error.allowed)
