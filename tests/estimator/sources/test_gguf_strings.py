"""Stepping over strings many at a time gives what stepping over them one at a time would."""

from __future__ import annotations

import struct
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from estimator.sources import gguf_strings
from estimator.sources.gguf_strings import walk_strings
from tests.estimator.sources.gguf_bytes import GGUFBytes


def walk_plainly(window: bytes, pos: int, count: int, order: str) -> tuple[int, int]:
    while count and pos + 8 <= len(window):
        pos += 8 + struct.unpack_from(f"{order}Q", window, pos)[0]
        count -= 1
    return pos, count


# Zeros in the text and lengths of two bytes look like what the fast way goes by, or break it.
texts = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.lists(st.sampled_from([0, 0, 0, 1, 8]), max_size=24).map(bytes),
        st.sampled_from([0, 1, 255, 256, 257, 512]).map(lambda n: b"x" * n),
    ),
    max_size=40,
)


@given(
    texts=texts,
    order=st.sampled_from(["<", ">"]),
    before=st.integers(0, 9),
    missing=st.integers(-3, 3),
    behind=st.sampled_from([b"", b"\0" * 20, b"\1" + b"\0" * 30, b"\xff" * 9]),
    cut=st.integers(0, 300),
    size=st.sampled_from([8, 9, 64, 1000]),
)
@example(texts=[b"", b"", b"\0" * 9], order="<", before=0, missing=0, behind=b"", cut=0, size=64)
def test_agrees_with_one_at_a_time(
    texts: list[bytes], order: Any, before: int, missing: int, behind: bytes, cut: int, size: int
) -> None:
    window = b"?" * before + b"".join(map(GGUFBytes(order).string, texts)) + behind
    window = window[: max(before, len(window) - cut)]
    count = max(0, len(texts) + missing)
    with mock.patch.object(gguf_strings, "SLICE_BYTES", size):
        for view in (window, memoryview(window)):
            walked = walk_strings(view, before, count, little_endian=order == "<")
            assert walked == walk_plainly(window, before, count, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_usual_vocabulary_is_proven_many_at_a_time(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [f"token {i}" for i in range(50_000)]
    window = b"".join(map(GGUFBytes(order).string, tokens))
    singly = 0

    def one_by_one(window: Any, pos: int, count: int, end: int, little_endian: bool) -> tuple[int, int]:
        nonlocal singly
        after, left = plainly(window, pos, count, end, little_endian)
        singly += count - left
        return after, left

    plainly = gguf_strings._one_by_one
    monkeypatch.setattr(gguf_strings, "_one_by_one", one_by_one)
    assert walk_strings(window, 0, len(tokens), little_endian=order == "<") == (len(window), 0)
    assert singly <= len(window) // gguf_strings.SLICE_BYTES + 1
