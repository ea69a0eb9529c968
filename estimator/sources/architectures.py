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
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Window:
    """Which layers attend to a window only (llama-hparams.cpp:8-22, ``set_swa_pattern``).

    Of every ``period`` layers all but the last have the window. ``default`` is its size in tokens where the
    file has no ``attention.sliding_window``; None = no layer has a window then. ``n_layer``: only models with so many
    layers have it at all.
    """

    period: int
    default: int | None = None
    n_layer: int | None = None

    def covers(self, layer: int, period: int) -> bool:
        """Whether a layer has the window; ``period`` is the file's own or ours."""
        return period == 0 or layer % period < period - 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """What reading a model of this architecture needs to know beside the shared keys.

    Args:
        window: None where the loader has no sliding window, or ignores the key.
        traits: what its graph does beside the plain transformer.
        ffn_norm: the tensor of a block that norms the input of its feed-forward.
        unnamed_norms: its norms have no weights, so no tensor shows them.
        no_rope_every: every so-many-th layer has no RoPE; 0 = all have it.
        rope_in_windows: where some layers have a window, only they have RoPE.
        m_rope_by_sections: a model has M-RoPE if its header names two sections of it.
        deepstack: the header may say that the first layers get a part of the embedding each.
    """

    window: Window | None = None
    traits: Traits = PLAIN
    ffn_norm: str = "ffn_norm"
    unnamed_norms: bool = False
    no_rope_every: int = 0
    rope_in_windows: bool = False
    m_rope_by_sections: bool = False
    deepstack: bool = False

    def has_rope(self, il: int, windows: Sequence[int]) -> bool:
        """Whether layer ``il`` turns its Q and K by their position; ``windows`` has a size for each layer."""
        if self.rope_in_windows and any(windows):
            return windows[il] > 0
        return not self.no_rope_every or (il + 1) % self.no_rope_every != 0


LAYER_NORM: Final = Traits(layer_norm=True)
M_ROPE: Final = Traits(m_rope=True)

# The file in src/models is named where it is not the architecture's own name.
ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        # llama.cpp; Mistral 7B v0.1 and Ministral 8B declare a window that this loader does not read. Mixtral too.
        "llama": Architecture(),
        "mistral3": Architecture(),
        "apertus": Architecture(),
        "arcee": Architecture(),
        "bailingmoe": Architecture(),
        "bailingmoe2": Architecture(),
        "chatglm": Architecture(),
        "codeshell": Architecture(traits=LAYER_NORM),
        # The norms of Cohere's models feed attention and feed-forward at once; only layers with a window have RoPE.
        "cohere2": Architecture(
            window=Window(period=4), traits=Traits(layer_norm=True, parallel="feed_forward"), rope_in_windows=True
        ),
        "command-r": Architecture(traits=Traits(layer_norm=True, parallel="feed_forward")),
        "dbrx": Architecture(traits=LAYER_NORM, ffn_norm="attn_output_norm"),
        # DeepSeek's first mixture, without latent attention
        "deepseek": Architecture(),
        "dots1": Architecture(),
        "ernie4_5": Architecture(),
        "ernie4_5-moe": Architecture(),
        "exaone": Architecture(),
        # exaone4.cpp:4-14: only the 32B has windows. The norms follow attention and feed-forward instead of leading.
        "exaone4": Architecture(window=Window(period=4, default=4096, n_layer=64), rope_in_windows=True),
        "gemma": Architecture(),
        # gemma2.cpp:5-12
        "gemma2": Architecture(window=Window(period=2, default=4096)),
        # gemma3.cpp:4-7; gemma3.cpp:graph scales the embedding by an input row.
        "gemma3": Architecture(window=Window(period=6), traits=Traits(scaled_embedding_rows=True)),
        "glm4": Architecture(m_rope_by_sections=True),
        # glm4-moe.cpp
        "glm4moe": Architecture(m_rope_by_sections=True, ffn_norm="post_attention_norm"),
        # openai-moe.cpp:6-9; the weights of the chosen experts go through a softmax instead of a division.
        "gpt-oss": Architecture(
            window=Window(period=2), traits=Traits(expert_weights="softmax"), ffn_norm="post_attention_norm"
        ),
        "granite": Architecture(),
        # granite-moe.cpp
        "granitemoe": Architecture(),
        "hunyuan-dense": Architecture(),
        "hunyuan-moe": Architecture(),
        "hunyuan_vl": Architecture(traits=M_ROPE),
        "internlm2": Architecture(),
        "jais2": Architecture(traits=LAYER_NORM),
        "maincoder": Architecture(),
        "mellum": Architecture(window=Window(period=4)),
        "minicpm": Architecture(),
        "minimax-m2": Architecture(),
        "nemotron": Architecture(traits=LAYER_NORM),
        # olmo.cpp: norms without weights
        "olmo": Architecture(traits=LAYER_NORM, unnamed_norms=True),
        # olmo2.cpp:6-9, OLMo 2 and 3; the norms follow attention and feed-forward.
        "olmo2": Architecture(window=Window(period=4)),
        "olmoe": Architecture(),
        "openelm": Architecture(),
        "orion": Architecture(traits=LAYER_NORM),
        "paddleocr": Architecture(traits=M_ROPE),
        # pangu-embed.cpp
        "pangu-embedded": Architecture(),
        "phi2": Architecture(traits=Traits(layer_norm=True, parallel="attention")),
        # phi3.cpp:13-23 turns the window off, with a warning.
        "phi3": Architecture(),
        "phimoe": Architecture(traits=LAYER_NORM),
        "plamo3": Architecture(window=Window(period=8)),
        "qwen2": Architecture(),
        "qwen2moe": Architecture(traits=Traits(expert_weights="plain")),
        "qwen2vl": Architecture(traits=M_ROPE),
        "qwen3": Architecture(),
        "qwen3moe": Architecture(),
        "qwen3vl": Architecture(traits=M_ROPE, deepstack=True),
        "qwen3vlmoe": Architecture(traits=M_ROPE, deepstack=True),
        # seed-oss.cpp
        "seed_oss": Architecture(ffn_norm="post_attention_norm"),
        # smollm3.cpp:5
        "smollm3": Architecture(no_rope_every=4),
        "stablelm": Architecture(traits=LAYER_NORM),
        "starcoder2": Architecture(traits=LAYER_NORM),
        "xverse": Architecture(),
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
        near = nearest(name, ARCHITECTURES)
        hint = f"; known are {', '.join(near)}" if near else f"; {len(ARCHITECTURES)} others are"
        raise ModelError(
            "unknown-architecture",
            f"the architecture {name[:64]!r} is not modelled yet: no rule for its layers, cache and graph{hint}",
            field="model",
            allowed=tuple(ARCHITECTURES),
        ) from None
