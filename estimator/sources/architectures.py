"""How each architecture of llama.cpp b11434 is read: one entry an architecture.

What an entry does not say follows from the keys that all architectures share (src/llama-model.cpp:1300-1494). Facts and
lines are from ``load_arch_hparams`` and the graph in src/models/<file>.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.model import PLAIN, Traits

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Window:
    """Which layers attend to a window only (llama-hparams.cpp:8-22, ``set_swa_pattern``).

    Of every ``period`` layers all but the last have the window. ``default`` is its size in tokens where the
    file has no ``attention.sliding_window``; None = no layer has a window then.
    """

    period: int
    default: int | None = None

    def covers(self, layer: int, period: int) -> bool:
        """Whether a layer has the window; ``period`` is the file's own or ours."""
        return period == 0 or layer % period < period - 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """What reading a model of this architecture needs to know beside the shared keys.

    ``window`` None: the loader has no sliding window, or ignores the key. ``requires_experts`` tells a mixture that has
    no dense variant.
    """

    window: Window | None = None
    traits: Traits = PLAIN


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        # llama.cpp; Mistral 7B v0.1 and Ministral 8B declare a window that this loader does not read. Mixtral too.
        "llama": Architecture(),
        "mistral3": Architecture(),
        "qwen2": Architecture(),
        "qwen3": Architecture(),
        "qwen3moe": Architecture(),
        # phi3.cpp:13-23 turns the window off, with a warning.
        "phi3": Architecture(),
        # gemma2.cpp:5-12
        "gemma2": Architecture(window=Window(period=2, default=4096)),
        # gemma3.cpp:4-7; gemma3.cpp:graph scales the embedding by an input row.
        "gemma3": Architecture(window=Window(period=6), traits=Traits(scaled_embedding_rows=True)),
        # openai-moe.cpp:6-9; the weights of the chosen experts go through a softmax instead of a division.
        "gpt-oss": Architecture(window=Window(period=2), traits=Traits(normalized_expert_weights=False)),
    }
)


def architecture(name: str) -> Architecture:
    """The entry of an architecture.

    Raises:
        ModelError: there is none: an architecture that is not known is never treated as another.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ModelError(
            "unknown-architecture",
            f"the architecture {name[:64]!r} is not modelled yet: there is no rule for its layers, cache and graph. "
            f"Known are {', '.join(ARCHITECTURES)}",
            field="model",
            allowed=tuple(ARCHITECTURES),
        ) from None
