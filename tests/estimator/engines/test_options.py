"""Options of engines: what is allowed, and how a refusal says it."""

from __future__ import annotations

import pytest

from estimator.engines.options import Option, Value, whole
from estimator.errors import SettingsError

WHOLE = Option(name="seqs", label="", kind="whole", default=None, flag="--seqs", low=1, high=1024)
NUMBER = Option(name="share", label="", kind="number", default=0.9, flag="--share", low=0.1, high=1)
SWITCH = Option(name="eager", label="", kind="switch", default=False, flag="--eager")
SHARES = Option(name="split", label="", kind="shares", default=None, flag="-ts")
CHOICE = Option(name="block", label="", kind="choice", default="16", flag="--block", choices=("16", "32"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (WHOLE, 1),
        (WHOLE, 1024),
        (NUMBER, 0.5),
        (NUMBER, 1),
        (SWITCH, True),
        (SWITCH, False),
        (CHOICE, "32"),
        (SHARES, "3,1"),
        (SHARES, "0.6"),
    ],
)
def test_what_is_allowed(option: Option, value: Value) -> None:
    assert option.checked(value) == value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((WHOLE, value) for value in (0, 1025, 1.5, "1", True)),
        *((NUMBER, value) for value in (0.05, 1.01, "0.5", True, float("nan"), float("inf"))),
        *((SWITCH, value) for value in (0, 1, "on")),
        *((SHARES, value) for value in ("", "3,", "3;1", "-1", "1e9", 3, ",".join("1" * 17))),
        *((CHOICE, value) for value in ("64", 16, True)),
    ],
)
def test_what_is_not(option: Option, value: Value) -> None:
    with pytest.raises(SettingsError, match=option.name) as caught:
        option.checked(value)
    assert caught.value.field == option.name
    assert caught.value.allowed == option.allowed


def test_refusals_say_what_would_do() -> None:
    assert WHOLE.allowed == "a whole number from 1 to 1,024"
    assert NUMBER.allowed == "a number from 0.1 to 1"
    with pytest.raises(SettingsError, match="must be one of 16, 32"):
        CHOICE.checked("8")
    with pytest.raises(SettingsError, match="n_ctx is -1; it must be a whole number from 0 to 10"):
        whole("n_ctx", -1, 0, 10)


def test_a_refusal_repeats_little() -> None:
    with pytest.raises(SettingsError) as caught:
        CHOICE.checked("x" * 10_000)
    assert len(caught.value.message) < 200
