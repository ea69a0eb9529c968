"""Typed, bounded access to the fields of a Hugging Face ``config.json``.

A field may have several names: the converter of llama.cpp takes the first that is there (conversion/base.py:211,
``find_hparam``, b11434). A field that is null counts as missing. Errors name the config's own field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from estimator.errors import ModelError
from estimator.sources.hparams import MAX_LAYERS, MAX_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FIELDS: Final = 4096
"""Our bound on the fields of one section: real configs have a hundred."""

NESTED: Final = ("text_config", "llm_config", "lm_config", "language_config", "lfm")
"""Sections that hold the text model (conversion/base.py:1288-1303)."""


class Config:
    """The fields of one section, and the defaults of its architecture for those that are missing."""

    def __init__(self, fields: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> None:
        if len(fields) > MAX_FIELDS:
            raise ModelError(
                "too-many-fields",
                f"the config has {len(fields):,} fields in a section; at most {MAX_FIELDS:,} are read",
            )
        self._fields = fields
        self._defaults = defaults or {}

    def with_defaults(self, defaults: Mapping[str, object]) -> Config:
        """The same fields, with other defaults."""
        return Config(self._fields, defaults)

    def value(self, *names: str) -> object:
        """What stands under the first of the names that is there, unchecked; None where none is."""
        return self._found(*names)[1]

    def _found(self, *names: str) -> tuple[str, object]:
        """The name that is there and what stands under it; the first of the names and None where none is."""
        for fields in (self._fields, self._defaults):
            for name in names:
                if (value := fields.get(name)) is not None:
                    return name, value
        return names[0], None

    def has(self, *names: str) -> bool:
        """Whether one of the names is there, in the config or among the defaults."""
        return self.value(*names) is not None

    def whole(self, *names: str, default: int | None = None, low: int = 0, high: int = MAX_WIDTH) -> int:
        """A whole number.

        Raises:
            ModelError: it is missing and has no default, or is out of range.
        """
        name, value = self._found(*names)
        if value is not None:
            return checked(name, value, low, high)
        if default is None:
            raise missing(*names)
        return default

    def maybe(self, *names: str, high: int = MAX_WIDTH) -> int | None:
        """A whole number, None where it is missing.

        Raises:
            ModelError: it is out of range.
        """
        return self.whole(*names, high=high) if self.has(*names) else None

    def real(self, *names: str, default: float | None = None) -> float:
        """A finite number, whole or not.

        Raises:
            ModelError: it is missing and has no default, or is no such number.
        """
        name, value = self._found(*names)
        if value is None:
            if default is None:
                raise missing(*names)
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e30 < value < 1e30:
            raise wrong(name, value, "a finite number")
        return float(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A flag; 0 and 1 are flags too.

        Raises:
            ModelError: it is something else.
        """
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise wrong(name, value, "true or false")
        return bool(value)

    def text(self, name: str) -> str | None:
        """A string, None where it is missing.

        Raises:
            ModelError: it is something else.
        """
        value = self.value(name)
        if value is not None and not isinstance(value, str):
            raise wrong(name, value, "a string")
        return value

    def items(self, name: str, length: int | None = None) -> tuple[object, ...] | None:
        """A list, None where it is missing; ``length`` if it must have one.

        Raises:
            ModelError: it is no list, or has another length.
        """
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > MAX_FIELDS:
            raise wrong(name, value, "a list")
        if length is not None and len(value) < length:
            raise wrong(name, f"a list of {len(value)}", f"a list with an entry for each of the {length} layers")
        return tuple(value)

    def wholes(self, name: str, length: int | None = None, *, high: int = MAX_WIDTH) -> tuple[int, ...] | None:
        """A list of whole numbers, None where it is missing.

        Raises:
            ModelError: it is no list, too short, or a number is out of range.
        """
        items = self.items(name, length)
        return None if items is None else tuple(checked(name, item, 0, high) for item in items)

    def section(self, *names: str) -> Config | None:
        """A section, None where it is missing.

        Raises:
            ModelError: it is something else.
        """
        name, value = self._found(*names)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise wrong(name, value, "a section with fields")
        return Config(value)

    def names(self) -> Iterator[str]:
        """The names of the fields."""
        return iter(self._fields)

    def overlaid(self, other: Config) -> Config:
        """The fields of both; the other's win (conversion/base.py:1357, ``TextModel.__init__``)."""
        return Config({**self._fields, **{name: value for name, value in other._fields.items() if value is not None}})

    def text_model(self) -> Config:
        """The fields of the text model: those of its section, over those beside it."""
        section = self.section(*NESTED)
        thinker = self.section("thinker_config")
        if section is None and thinker is not None:
            section = thinker.section("text_config")
        return self if section is None else self.overlaid(section)

    @property
    def n_layer(self) -> int:
        """Layers of the trunk (conversion/base.py:1361)."""
        if not self.has("num_hidden_layers", "n_layers", "n_layer", "num_layers") and self.has("layers_block_type"):
            return checked("layers_block_type", len(self.items("layers_block_type") or ()), 1, MAX_LAYERS)
        return self.whole("n_layers", "num_hidden_layers", "n_layer", "num_layers", low=1, high=MAX_LAYERS)


def missing(*names: str) -> ModelError:
    """The refusal of a config that lacks a field."""
    others = f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""
    return ModelError("missing-key", f"the config has no {names[0]}{others}", field=names[0])


def wrong(name: str, value: object, allowed: str) -> ModelError:
    """The refusal of a field's value."""
    return ModelError("bad-value", f"{name} is {shown(value)}; it must be {allowed}", field=name, allowed=allowed)


def shown(value: object) -> str:
    """A value as an error shows it: short, whatever it is."""
    if isinstance(value, str):
        return repr(value[:64])
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return "a number of more than 18 digits"
    if isinstance(value, bool | int | float):
        return str(value)
    return f"a {type(value).__name__}"


def checked(name: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds.

    Raises:
        ModelError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(name, value, f"a whole number from {low:,} to {high:,}")
    return value
