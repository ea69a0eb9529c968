"""No config crashes the reader: it is read, or refused as a model."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import estimator as fathom
from estimator.errors import ModelError
from estimator.sources.hf.rules import RULES
from tests.estimator.sources.hf import configs

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from([2**31, 2**63, 10**40, -(2**70)])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["full_attention", "sliding_attention", "sparse", "mamba", "M*E-", "llama3", "auto"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
SAMPLES = [configs.config(id) for id in configs.ids()[::5]]
NAMES = sorted({name for sample in SAMPLES for part in (sample, sample.get("text_config") or {}) for name in part})


def read(config: Any) -> None:
    refusal = None
    try:
        model = fathom.read_hf(config)
    except ModelError as error:
        refusal = error
    if refusal is None:
        assert model.parameters > 0
        assert model.weights_bytes > 0
    else:
        assert 0 < len(refusal.message) < 2000


@given(st.sampled_from(SAMPLES), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
@settings(max_examples=100, deadline=None)
def test_fields_that_make_no_sense(sample: dict[str, Any], changes: dict[str, Any]) -> None:
    read({**sample, **changes})


@given(st.sampled_from(SAMPLES), st.sets(st.sampled_from(NAMES), max_size=4))
@settings(max_examples=60, deadline=None)
def test_fields_that_are_missing(sample: dict[str, Any], missing: set[str]) -> None:
    read({name: value for name, value in sample.items() if name not in missing})


@given(st.sampled_from(sorted(RULES)), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_architecture_with_any_fields(name: str, fields: dict[str, Any]) -> None:
    read({**configs.LLAMA, **fields, "architectures": [name]})


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_anything_at_all(value: Any) -> None:
    read(value)
    read({"architectures": value, "text_config": value})
