"""What users' logs show: every size is equal by the rules of the log's build, or its difference has a name."""

from __future__ import annotations

from typing import Final

import pytest

from tests.logs.builds import RULES, rules
from tests.logs.comparison import MIB, OPEN, Compared, Figure, compare, compared_grid, compared_posts
from tests.logs.log import Log, grid, is_host, posted


def test_how_many_logs_there_are() -> None:
    assert len(posted()) == 64
    assert len(grid()) == 123


@pytest.mark.parametrize("log", posted(), ids=lambda log: log.source[-40:])
def test_the_cache_of_every_log_is_equal(log: Log) -> None:
    whole = next(found for found in compared_posts() if found.log is log).figures[0]
    assert (whole.where, whole.kind) == ("all", "kv_cache")
    assert whole.is_equal


def test_each_difference_has_a_name_and_each_name_a_difference() -> None:
    differ = {
        (found.log.source, figure.kind)
        for found in (*compared_posts(), *compared_grid())
        for figure in found.figures
        if not figure.is_equal
    }
    assert differ == OPEN.keys()


def test_the_grid_has_no_differences_at_all() -> None:
    figures = [figure for found in compared_grid() for figure in found.figures]
    assert len(figures) == 123 * 18
    assert all(figure.is_equal for figure in figures)


FURTHER_AWAY: Final = (
    ("state-in-cache", "llama.cpp#6189"),
    ("padded-to-32", "llama.cpp#8862"),
    ("one-stream", "llama.cpp#12836"),
    ("whole-windows", "llama.cpp#9013"),
    ("cached-encoders", "llama.cpp#11105"),
    ("latent-v", "llama.cpp#14201"),
    ("output-last", "llama.cpp#8760"),
    ("prompts-only", "llama.cpp#8503"),
    ("all-logits", "llama.cpp#7611"),
    ("f32-mask", "llama.cpp#10701"),
    ("pooled-copies", "T1_kvq4_0_ctx32768_ub1586.log"),
    ("metal-in-place", "(llama-server b8999-b97ebdc98, 2026-05-04)"),
    ("weighed-in-place", "T5_B28_t40_kvq8_0_smlayer_ctx32768_ub1586.log"),
    ("text-or-embeddings", "llama.cpp#8213"),
    ("tokens-only", "llama.cpp#8213"),
    ("early-selection", "T5_B28_t40_kvq8_0_smlayer_ctx32768_ub1586.log"),
    ("unrotated", "build 7972, partial offload)"),
    ("contiguous-cells", "llama.cpp#8213"),
    ("apart-activation", "llama.cpp#8213"),
    ("copied-parts", "llama.cpp#9451"),
)
"""For each rule a log that shows it."""


@pytest.mark.parametrize(("rule", "source"), FURTHER_AWAY)
def test_without_a_rule_a_log_is_further_away(rule: str, source: str) -> None:
    logs = [log for log in (*posted(), *grid()) if log.source.endswith(source) and rule in rules(log)]
    assert logs
    assert any(errors(compare(log, rules(log) - {rule})) > errors(compare(log)) + 0.01 for log in logs)


def errors(found: Compared) -> float:
    return sum(abs(figure.built / MIB - figure.printed) for figure in found.figures)


def test_all_rules_are_tried() -> None:
    assert [rule for rule, _ in FURTHER_AWAY] == list(RULES)


@pytest.mark.parametrize(
    ("built", "printed", "is_equal"),
    [(MIB, 1.0, True), (MIB + 5000, 1.0, True), (MIB + 6000, 1.0, False), (MIB - 6000, 1.0, False)],
)
def test_equal_is_what_rounds_to_the_printed_number(built: int, printed: float, is_equal: bool) -> None:
    figure = Figure("GPU", "compute", printed, 0, built)
    assert figure.is_equal is is_equal
    assert not figure.is_equal_now


@pytest.mark.parametrize(
    ("name", "expected"), [("CPU_Mapped", True), ("CUDA_Host", True), ("AMX", True), ("CUDA0", False), ("MTL0", False)]
)
def test_buffers_of_the_host(name: str, expected: bool) -> None:
    assert is_host(name) is expected
