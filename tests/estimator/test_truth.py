"""Estimates against llama.cpp's own breakdowns: to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from estimator.devices import GENERIC
from estimator.errors import SettingsError
from estimator.estimate import Estimate, estimate
from estimator.sources.architectures import ARCHITECTURES
from tests.estimator import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.estimator.truth import Case


def attempt(name: str, case: Case) -> Estimate | SettingsError:
    try:
        return estimate(truth.model(name), case.settings, [GENERIC] * case.n_devices)
    except SettingsError as error:
        return error


def differences(case: Case, found: Estimate | SettingsError) -> Iterator[str]:
    """What is not as llama.cpp says, a sentence each."""
    breakdown = case.breakdown
    if isinstance(found, SettingsError) or "error" in breakdown:
        if not isinstance(found, SettingsError) or "error" not in breakdown:
            yield f"{case.text}: {found!r} instead of {breakdown.get('error', 'an answer')}"
        return
    if found.context.n_ctx != breakdown["n_ctx"]:
        yield f"{case.text}: n_ctx {found.context.n_ctx} is not {breakdown['n_ctx']}"
    for figure in truth.figures(case, found):
        off = figure.found - figure.measured
        if off:
            yield f"{case.text}: {figure.share} {figure.kind} {figure.found:,} is not {figure.measured:,} ({off:+,})"
    for share in (*found.devices, found.host):
        if share.overhead:
            yield f"{case.text}: {share.label} has an overhead of {share.overhead:,}"


@pytest.mark.parametrize("name", truth.names())
def test_one_device_is_exact(name: str) -> None:
    cases = truth.whole_cases(name, n_devices=1)
    assert cases
    assert [text for case in cases for text in differences(case, attempt(name, case))] == []


@pytest.mark.parametrize("name", [name for name in truth.names() if truth.whole_cases(name, n_devices=2)])
def test_two_devices_are_exact(name: str) -> None:
    cases = truth.whole_cases(name, n_devices=2)
    assert [text for case in cases for text in differences(case, attempt(name, case))] == []


@pytest.mark.parametrize("name", [name for name in truth.names() if truth.partial_cases(name)])
def test_what_is_partly_on_the_host_is_exact(name: str) -> None:
    cases = truth.partial_cases(name)
    assert [text for case in cases for text in differences(case, attempt(name, case))] == []


def test_the_measurements_cover_what_is_modelled() -> None:
    assert {truth.model(name).architecture for name in truth.names()} == set(ARCHITECTURES)
    assert sum(len(truth.whole_cases(name, n_devices=1)) for name in truth.names()) == 4545
    assert sum(len(truth.whole_cases(name, n_devices=2)) for name in truth.names()) == 288
    assert sum(len(truth.partial_cases(name)) for name in truth.names()) == 1089
