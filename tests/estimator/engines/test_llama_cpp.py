"""llama.cpp's programs, and the patterns that their options stand for."""

from __future__ import annotations

import re

import pytest

from estimator.engines.llama_cpp import PROGRAMS, below, kept_on_cpu, program
from estimator.settings import MAX_PATTERN, Settings
from estimator.sources.hparams import MAX_LAYERS


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 17, 20, 37, 62, 99, 100, 101, 128, 200, 512])
def test_a_pattern_of_the_numbers_below(n: int) -> None:
    assert [i for i in range(1200) if re.fullmatch(below(n), str(i))] == list(range(n))


def kept(pattern: str | None, *names: str) -> list[str]:
    return [name for name in names if pattern is not None and re.search(pattern, name)]


NAMES = (
    "blk.0.ffn_up_exps.weight",
    "blk.3.ffn_gate_up_exps.weight",
    "blk.3.ffn_gate.weight",
    "blk.3.ffn_gate_inp.weight",
    "blk.3.ffn_up_shexp.weight",
    "blk.30.ffn_down_exps.weight",
    "blk.30.ffn_down.weight",
    "blk.30.attn_q.weight",
)


@pytest.mark.parametrize(
    ("n_cpu_moe", "n_cpu_ffn", "expected"),
    [
        (0, 0, []),
        (-1, 0, [NAMES[0], NAMES[1], NAMES[5]]),
        (1, 0, [NAMES[0]]),
        (4, 0, [NAMES[0], NAMES[1]]),
        (31, 0, [NAMES[0], NAMES[1], NAMES[5]]),
        (0, 4, [NAMES[2]]),
        (0, 31, [NAMES[2], NAMES[6]]),
        (1, 31, [NAMES[0], NAMES[2], NAMES[6]]),
    ],
)
def test_what_stays_in_host_memory(n_cpu_moe: int, n_cpu_ffn: int, expected: list[str]) -> None:
    assert kept(kept_on_cpu(n_cpu_moe, n_cpu_ffn), *NAMES) == expected


def test_every_pattern_is_taken() -> None:
    for n in (1, 100, MAX_LAYERS):
        pattern = kept_on_cpu(n, n)
        assert pattern is not None
        assert len(pattern) < MAX_PATTERN
        assert Settings(cpu_tensors=pattern).cpu_tensors == pattern


def test_programs_by_name() -> None:
    assert [program(one.id) for one in PROGRAMS] == list(PROGRAMS)
    assert program("ollama") is None
