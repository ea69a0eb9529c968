"""What a config says, under the keys of a GGUF header.

``common_keys`` are those that the converter writes for almost every model (conversion/base.py:1436-1548,
``TextModel.set_gguf_parameters``, b11434). Keys that no byte depends on are left out. The other functions here add what
several architectures share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.sources.hf.config import MAX_FIELDS, Config, checked, missing, wrong
from estimator.sources.hparams import MAX_EXPERTS, MAX_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from estimator.sources.hf.build import Keys

    KeyRule = Callable[[Config, Keys], None]
    """Adds to the keys, or changes them."""


FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "context_length": (
        "max_position_embeddings",
        "n_ctx",
        "n_positions",
        "max_length",
        "max_sequence_length",
        "model_max_length",
    ),
    "embedding_length": ("hidden_size", "n_embd", "dim"),
    "feed_forward_length": (
        "prefix_dense_intermediate_size",
        "dense_intermediate_size",
        "intermediate_size",
        "n_inner",
        "hidden_dim",
    ),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "attention.head_count_kv": ("num_key_value_heads", "n_kv_heads"),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
}
"""Keys that hold a whole number of the config, with the names that its field may have."""

_MAY_BE_LISTS: Final = frozenset({"feed_forward_length", "attention.head_count", "attention.head_count_kv"})
"""Keys that may have a number for each layer."""

_POSITIVE: Final = frozenset({"embedding_length", "context_length"})

_OF_HEADS: Final = frozenset({"attention.key_length", "attention.value_length"})
"""Positive too, but with latent attention, which has sizes of its own."""


def common_keys(config: Config) -> Keys:
    """The keys that a config has for almost every architecture."""
    keys: Keys = {"block_count": config.n_layer}
    for key, names in FIELDS.items():
        if config.has(*names):
            keys[key] = _number(config, key, names)
    if config.value("is_causal") is False:
        keys["attention.causal"] = False
    if sections := _rope_sections(config):
        keys["rope.dimension_sections"] = sections
    return keys


def _number(config: Config, key: str, names: tuple[str, ...]) -> int | tuple[int, ...]:
    if key in _MAY_BE_LISTS and isinstance(config.value(*names), list | tuple):
        name = next(name for name in names if config.has(name))
        return (config.wholes(name, config.n_layer) or ())[: config.n_layer]
    is_positive = key in _POSITIVE or (key in _OF_HEADS and not config.has("kv_lora_rank"))
    high = MAX_EXPERTS if key.startswith("expert_") else MAX_WIDTH
    return config.whole(*names, low=int(is_positive), high=high)


def rope_parameters(config: Config) -> Config | None:
    """How positions turn heads: for full attention, where windows have their own."""
    section = config.section("rope_parameters", "rope_scaling")
    return None if section is None else section.section("full_attention") or section


def _rope_sections(config: Config) -> tuple[int, ...]:
    section = config.section("rope_parameters", "rope_scaling")
    sections = section.wholes("mrope_section") if section else None
    return (*sections, 0, 0, 0, 0)[:4] if sections else ()


def whole(key: str, *names: str, default: int | None = None) -> KeyRule:
    """A key with a whole number; without a default it is left out where the field is missing."""

    def rule(config: Config, keys: Keys) -> None:
        if default is not None or config.has(*names):
            keys[key] = config.whole(*names, default=default)

    return rule


def needed(key: str, *names: str) -> KeyRule:
    """A key with a whole number that the config must have."""

    def rule(config: Config, keys: Keys) -> None:
        keys[key] = config.whole(*names)

    return rule


def fixed(key: str, value: int | bool | float) -> KeyRule:
    """A key whose value is the architecture's."""

    def rule(config: Config, keys: Keys) -> None:
        keys[key] = value

    return rule


def scaled_experts(config: Config, keys: Keys) -> None:
    """How the weights of the chosen experts are divided and scaled."""
    if config.has("routed_scaling_factor"):
        keys["expert_weights_scale"] = config.real("routed_scaling_factor")
    if config.has("norm_topk_prob"):
        keys["expert_weights_norm"] = config.flag("norm_topk_prob")


def expert_width(config: Config, keys: Keys) -> None:
    """The width of an expert; a list must say the same for all layers."""
    if config.has("moe_intermediate_size"):
        keys["expert_feed_forward_length"] = uniform(config, "moe_intermediate_size")


def uniform(config: Config, name: str) -> int:
    """A whole number, or the first of a list of them (conversion/hunyuan.py takes a list that is uniform)."""
    value = config.value(name)
    if value is None:
        raise missing(name)
    if isinstance(value, list | tuple):
        if not 0 < len(value) <= MAX_FIELDS or any(item != value[0] for item in value):
            raise wrong(name, value, "one number, or a list of equal ones")
        value = value[0]
    return checked(name, value, 0, MAX_WIDTH)


def window(*names: str, default: int | None = None) -> KeyRule:
    """The width of the sliding window, where there is one."""
    return whole("attention.sliding_window", *(names or ("sliding_window",)), default=default)


def window_layers(config: Config, keys: Keys) -> None:
    """The layers with a window, one by one."""
    if (types := config.items("layer_types", config.n_layer)) is not None:
        keys["attention.sliding_window_pattern"] = tuple(
            item == "sliding_attention" for item in types[: config.n_layer]
        )


def window_every(period: int) -> KeyRule:
    """The layers with a window: those listed, or all but every so-many-th."""

    def rule(config: Config, keys: Keys) -> None:
        n = config.n_layer
        keys["attention.sliding_window_pattern"] = tuple((il + 1) % period != 0 for il in range(n))
        window_layers(config, keys)

    return rule


def without(*names: str) -> KeyRule:
    """Keys that the converter does not write for an architecture."""

    def rule(config: Config, keys: Keys) -> None:
        for name in names:
            keys.pop(name, None)

    return rule


no_head_dim = without("attention.key_length", "attention.value_length")
"""``head_dim`` is ignored: a head is as wide as the heads share the model's width."""
