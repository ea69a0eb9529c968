"""All architectures of Hugging Face whose configs can be read, and how one finds its rule.

Names are those that llama.cpp's converter registers (conversion/__init__.py, b11434).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.sources.hf.config import NESTED, shown, wrong
from estimator.sources.hf.families import (
    bert,
    classic,
    compressed,
    deepseek,
    gemma,
    glm,
    hybrid,
    linear,
    llama,
    moe,
    more,
    qwen,
    sparse,
)
from estimator.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from estimator.sources.hf.config import Config
    from estimator.sources.hf.rule import Rule

FAMILIES: Final = (
    llama,
    qwen,
    gemma,
    deepseek,
    compressed,
    glm,
    hybrid,
    linear,
    moe,
    sparse,
    classic,
    more,
    bert,
)

RULES: Final[Mapping[str, Rule]] = {name: rule for family in FAMILIES for name, rule in family.RULES.items()}

ROUTED_BY_TOP: Final = ("Exaone4_5_ForConditionalGeneration", "KimiK3ForConditionalGeneration")
"""Whose text section names another architecture than theirs (conversion/base.py:2905-2911)."""


def defaults_for(config: Config) -> Mapping[str, object]:
    """Fields that transformers fills in: by the architecture at the top, and by that of the text model."""
    top = RULES.get(_first(config) or "")
    return {**(top.defaults if top else {}), **rule_for(config).defaults}


def parameters_beside(config: Config) -> int:
    """Parameters beside the text model, by the architecture that a config names at its top."""
    name = _first(config)
    rule = RULES.get(name) if name else None
    return sum(count(config.text_model().with_defaults(rule.defaults)) for count in rule.beside) if rule else 0


def rule_for(config: Config) -> Rule:
    """The rule of the architecture that a config names; of its ``model_type`` where it names none.

    Raises:
        ModelError: it names none, or one without a rule.
    """
    top, nested = _first(config), _nested(config)
    names = [name for name in (nested if top not in ROUTED_BY_TOP else None, top) if name]
    if not names:
        return _by_model_type(config)
    for name in names:
        if name in RULES:
            return RULES[name]
    raise _unknown("architectures", names[0])


def _by_model_type(config: Config) -> Rule:
    name = config.text("model_type")
    if name is None:
        raise ModelError(
            "missing-key",
            'the config has no architectures: it needs a list as ["LlamaForCausalLM"]',
            field="architectures",
        )
    wanted = _stem(name)
    rule = next((rule for known, rule in RULES.items() if _stem(known) == wanted), None)
    if rule is None:
        raise _unknown("model_type", name)
    return rule


def _unknown(field: str, name: str) -> ModelError:
    """The refusal of an architecture, with those whose own part of the name is near."""
    stems: dict[str, str] = {}
    for known in RULES:
        stems.setdefault(_stem(known), known)
    near = [stems[stem] for stem in nearest(_stem(name), stems)]
    hint = f"; known are {', '.join(near)}" if near else f"; {len(RULES)} others are known"
    return ModelError(
        "unknown-architecture",
        f"{field} is {shown(name)}: there is no rule for reading its config{hint}",
        field=field,
        allowed=tuple(sorted(RULES)),
    )


def _stem(name: str) -> str:
    """An architecture's own part of its name: ``Qwen3MoeForCausalLM`` and ``qwen3_moe`` are one."""
    own = name[:64].partition("For")[0].lower().replace("_", "").replace("-", "")
    return own.removesuffix("lmhead").removesuffix("model").removesuffix("text")


def _first(config: Config) -> str | None:
    names = config.items("architectures")
    if not names:
        return None
    if not isinstance(names[0], str):
        raise wrong("architectures", names[0], 'a list of names, as ["LlamaForCausalLM"]')
    return names[0]


def _nested(config: Config) -> str | None:
    section = config.section(*NESTED)
    return _first(section) if section else None
