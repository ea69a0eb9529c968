"""Published figures of quality: readable, plausible and each with where it comes from."""

from __future__ import annotations

from itertools import permutations
from urllib.parse import urlsplit

import pytest

from estimator.ggml import CACHE_TYPES, cache_type, row_bytes
from estimator.quality import Figure, notes, quality
from tests.estimator import truth


@pytest.mark.parametrize("figure", quality().figures, ids=lambda figure: f"{figure.k}-{figure.v}")
def test_a_figure_is_of_a_pair_and_worse_than_f16(figure: Figure) -> None:
    assert {figure.k, figure.v} <= set(CACHE_TYPES)
    assert (figure.k, figure.v) != ("f16", "f16")
    assert 0 < figure.change < figure.plain / 4
    assert figure.model


def test_every_statement_has_a_source() -> None:
    sources = {figure.source for figure in quality().figures} | {note.source for note in quality().notes}
    assert all(urlsplit(source.url).scheme == "https" and source.title for source in sources)
    assert len({source.url for source in sources}) == len(sources)


def test_within_one_test_fewer_bits_are_worse() -> None:
    compared = 0
    for more, fewer in permutations(quality().figures, 2):
        same = all(getattr(more, name) == getattr(fewer, name) for name in ("source", "model", "rotated"))
        if same and n_bytes(more.k) > n_bytes(fewer.k) and n_bytes(more.v) >= n_bytes(fewer.v):
            compared += 1
            assert more.change < fewer.change
    assert compared > 3


def n_bytes(name: str) -> int:
    """Bytes of 256 elements."""
    return row_bytes(cache_type(name), 256)


def test_a_note_about_one_architecture_is_for_its_models_only() -> None:
    every = notes(truth.model("llama-dense"))
    assert every
    assert all(note.architecture is None for note in every)
    special = [note for note in quality().notes if note.architecture]
    assert {note.architecture for note in special} == {"gpt-oss"}
    assert set(notes(truth.model("gpt-oss-moe"))) == {*every, *special}
