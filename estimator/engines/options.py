"""An option that only some engines have: its bounds, its default, and what the engine itself calls it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from estimator.errors import SettingsError

Value = int | float | str | bool

_SHARES: Final = re.compile(r"\d{1,6}(\.\d{1,6})?(,\d{1,6}(\.\d{1,6})?){0,15}", re.ASCII)

MAX_SHOWN: Final = 40
"""Characters of a value that a refusal repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of an engine.

    Args:
        name: what queries and refusals call it.
        label: for people.
        kind: ``whole`` and ``number`` have bounds, ``choice`` has ``choices``, ``switch`` is on or off, ``shares`` are
            numbers of each device with commas between.
        default: None = the engine decides by a rule that ``summary`` tells.
        flag: as the engine's command line, environment or function calls it.
        low: the least number.
        high: the greatest number; our own bound where the engine has none.
        choices: what may be chosen.
        summary: what it does to memory, in a sentence.
    """

    name: str
    label: str
    kind: Literal["whole", "number", "switch", "choice", "shares"]
    default: Value | None
    flag: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    summary: str = ""

    @property
    def allowed(self) -> str | tuple[str, ...]:
        """What may be given, in words or as a list."""
        if self.kind == "choice":
            return self.choices
        if self.kind == "switch":
            return "true or false"
        if self.kind == "shares":
            return "a number for each device, such as 3,1"
        return f"a {'whole ' if self.kind == 'whole' else ''}number from {self.low:,} to {self.high:,}"

    def checked(self, value: Value) -> Value:
        """The value, if it is allowed.

        Raises:
            SettingsError: it is not; ``field`` is the name.
        """
        if self._is_allowed(value):
            return value
        allowed = self.allowed if isinstance(self.allowed, str) else "one of " + ", ".join(self.allowed)
        message = f"{self.name} is {repr(value)[:MAX_SHOWN]}; it must be {allowed}"
        raise SettingsError("out-of-range", message, field=self.name, allowed=self.allowed)

    def _is_allowed(self, value: Value) -> bool:
        if self.kind == "choice":
            return value in self.choices
        if self.kind == "shares":
            return isinstance(value, str) and _SHARES.fullmatch(value) is not None
        if self.kind == "switch" or isinstance(value, (bool, str)):
            return self.kind == "switch" and isinstance(value, bool)
        return (self.kind == "number" or isinstance(value, int)) and self.low <= value <= self.high


def whole(name: str, value: int, low: int, high: int) -> int:
    """A whole number between two others.

    Raises:
        SettingsError: it is not.
    """
    option = Option(name=name, label=name, kind="whole", default=None, flag=name, low=low, high=high)
    option.checked(value)
    return value
