"""Numbers of layers and their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator import ModelError
from estimator.sources.hparams import MAX_LAYERS
from estimator.sources.runs import as_runs, from_runs


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([7], "7"),
        ([0, 1], "0-1"),
        ([0, 2], "0,2"),
        ([0, 2, 4], "0-4/2"),
        ([5, 3, 1], "1-5/2"),
        ([0, 1, 2, 3, 5, 8, 11, 14, 15], "0-3,5-14/3,15"),
        ([0, 4, 5, 6], "0,4-6"),
        (list(range(MAX_LAYERS)), "0-511"),
    ],
)
def test_the_text(layers: list[int], text: str) -> None:
    assert as_runs(layers) == text
    assert from_runs(text) == sorted(layers)


@given(st.sets(st.integers(0, MAX_LAYERS - 1), min_size=1))
def test_there_and_back(layers: set[int]) -> None:
    assert from_runs(as_runs(layers)) == sorted(layers)


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "1,", ",1", " 1", "-1", "1-", "a", "1.5", "٣", "1-3/", "1-3/0", "1/2", "0-9/2", "3-1"),
        *("1,1", "2,1", "0-3,3", "512", "0-512", "0000", "9999999999", "0-4/2/2"),
    ],
)
def test_what_is_no_layers(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        from_runs(text)
    assert caught.value.code == "bad-layers"
