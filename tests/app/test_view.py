"""What the page says about a state."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from app import outcome, text
from app.errors import RequestError
from app.parsing import parse
from app.query import Query, checked
from app.view import COMPARED_TYPES, answer
from estimator import estimate, max_context

SMALL = "llama-3.2-1b-instruct"


@pytest.mark.parametrize(
    ("query", "headline", "fits"),
    [
        (Query(), "Fits an RTX 4090 24 GB up to its full 131,072 tokens", True),
        (Query(device=("m1-16gb",), ctx=8192), "Fits an M1 16 GB up to {deepest} tokens", True),
        (Query(model="qwen2.5-32b-instruct"), "Fits an RTX 4090 24 GB up to {deepest} tokens", False),
        (Query(model="llama-3.3-70b-instruct"), "Does not fit an RTX 4090 24 GB", False),
        (Query(model="llama-3.3-70b-instruct", device=("tesla-t4",) * 2), "Does not fit 2 x Tesla T4 16 GB", False),
        (
            Query(model="gpt-oss-20b", device=("radeon-rx-7900-xtx", "rtx-3060-12-gb")),
            "Fits a Radeon RX 7900 XTX 24 GB + RTX 3060 12 GB up to its full 131,072 tokens",
            True,
        ),
    ],
)
def test_the_verdict(query: Query, headline: str, fits: bool) -> None:
    result = answer(query)
    assert result.verdict.headline == headline.format(deepest=text.tokens(result.max_context))
    assert result.estimate.fits is fits
    assert result.verdict.state == ("fits" if fits else "partly" if result.max_context else "over")


def test_the_detail_says_what_stays_free() -> None:
    result = answer(Query())
    (share,) = result.estimate.devices
    assert share.capacity is not None
    assert result.max_context > 131_072
    assert result.verdict.detail == (
        f"At 131,072 tokens it takes {text.size(share.total)} of {text.size(share.capacity)}: "
        f"{text.size(share.capacity - share.total)} stay free."
    )


def test_the_detail_says_until_where_a_margin_is_free() -> None:
    result = answer(Query(model="qwen2.5-32b-instruct", ctx=4096))
    assert 0 < result.outcome.safe_context < result.max_context
    assert result.verdict.detail.endswith(
        "The 1.00 GiB that llama.cpp would leave, for what grows with long prompts, is free up to "
        f"{text.tokens(result.outcome.safe_context)} tokens."
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (Query(ctx=8192), "What the model was trained for decides, not memory, which would last for {deepest} tokens."),
        (Query(model="llama-3.3-70b-instruct"), "The weights decide: they take 39.04 GiB beside "),
        (Query(model="qwen2.5-32b-instruct"), "The K/V cache decides: it grows to "),
        (
            Query(model="gemma-3-27b-it", quant="Q8_0", device=("rtx-3090", "rtx-3060-12-gb")),
            " of all else on an RTX 3060 12 GB.",
        ),
        (Query(model=SMALL, device=("generic",)), "Nothing limits it but the context that is asked for."),
    ],
)
def test_what_decides(query: Query, sentence: str) -> None:
    result = answer(query)
    assert sentence.format(deepest=text.tokens(result.max_context)) in result.verdict.decides
    assert result.verdict.decides.count(". ") == 0


def test_the_detail_says_what_is_missing() -> None:
    result = answer(Query(model="qwen2.5-32b-instruct"))
    (share,) = result.estimate.devices
    assert share.capacity is not None
    assert text.size(share.total - share.capacity) in result.verdict.detail
    assert "more than" in result.verdict.detail


def test_the_detail_is_about_the_device_that_is_fullest() -> None:
    result = answer(Query(model="gpt-oss-20b", device=("rtx-5090", "rtx-3050-6-gb")))
    spare = {share.name: (share.capacity or 0) - share.total for share in result.estimate.devices}
    fullest = min(spare, key=lambda name: spare[name])
    assert f" on {fullest}" in result.verdict.detail
    assert text.size(abs(spare[fullest])) in result.verdict.detail


def test_a_device_without_limit_is_said_to_have_none() -> None:
    assert answer(Query(model=SMALL, device=("generic",))).verdict.detail.endswith("this device has no limit.")


@pytest.mark.parametrize(
    "query",
    [
        Query(model=SMALL, ctx=12345, kv=("q8_0", "q4_0")),
        Query(model="qwen2.5-32b-instruct"),
        Query(model="llama-3.3-70b-instruct", device=("rtx-4090", "rtx-3090")),
    ],
)
def test_the_rows_are_the_estimates_of_their_contexts(query: Query) -> None:
    result = answer(query)
    model, settings, devices = query.load().model, query.settings(), query.devices()
    contexts = [row.n_ctx for row in result.rows]
    assert contexts == sorted(set(contexts))
    for row in result.rows:
        assert row.estimate == estimate(model, replace(settings, n_ctx=row.n_ctx), devices)
    notes = {row.note: row.n_ctx for row in result.rows if row.note}
    asked = query.ctx or model.context_length
    assert [n_ctx for note, n_ctx in notes.items() if "asked for" in note] == [asked]
    assert [n_ctx for note, n_ctx in notes.items() if "trained for" in note] == [model.context_length]
    deepest = max_context(model, settings, devices)
    assert notes.get("the most that fits") == (deepest if 0 < deepest < model.context_length else None)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(model=SMALL), ["f16", "q8_0", "q4_0"]),
        (Query(model=SMALL, kv=("q8_0", "q8_0")), ["f16", "q8_0", "q4_0"]),
        (Query(model=SMALL, kv=("q8_0", "q4_0")), ["q8_0 : q4_0", "f16", "q8_0", "q4_0"]),
        (Query(model=SMALL, fa=False), ["f16"]),
        (Query(model=SMALL, fa=False, kv=("q8_0", "f16")), ["q8_0 : f16", "f16"]),
    ],
)
def test_the_cache_types_that_are_compared(query: Query, names: list[str]) -> None:
    result = answer(query)
    assert [other.name for other in result.alternatives] == names
    assert [other.chosen for other in result.alternatives].count(True) == 1
    for other in result.alternatives:
        state = parse(parse_qs(other.query))
        assert state == replace(query, kv=state.kv)
        assert other.chosen == (state == query)
        model, settings, devices = state.load().model, state.settings(), state.devices()
        assert other.max_context == max_context(model, settings, devices)
        (share,) = estimate(model, settings, devices).devices
        assert (other.cache, other.total) == (share.kv_cache, share.total)


@pytest.mark.parametrize(("deepest", "headline"), [(131072, "its full 131,072 tokens"), (130816, "130,816 tokens")])
def test_a_limit_at_the_trained_length_is_the_full_length(
    deepest: int, headline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "max_context", lambda *_, spare=0: deepest - spare // 2**20)
    found = outcome.outcome(checked(Query(ctx=8192)), 89.6)
    assert found.verdict.headline == f"Fits an RTX 4090 24 GB up to {headline}"


def test_fewer_bits_reach_deeper() -> None:
    result = answer(Query(model="qwen2.5-32b-instruct"))
    deepest = [other.max_context for other in result.alternatives]
    assert len(deepest) == len(COMPARED_TYPES)
    assert deepest == sorted(set(deepest))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(model="nope"), "model"),
        (Query(kv=("f16", "q4_0"), fa=False), "kv"),
        (Query(np=0), "np"),
        (Query(wired=100), "wired"),
        (Query(ctx=2**31), "ctx"),
    ],
)
def test_a_state_that_cannot_be_is_refused_by_the_querys_name(query: Query, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        answer(query)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(), ["f16", "q8_0", "q4_0"]),
        (Query(fa=False), ["f16"]),
        # heads of 80 do not fill blocks of 32
        (Query(model="phi-2"), ["f16"]),
        (Query(kv=("q8_0", "q4_0")), ["q8_0 : q4_0", "f16", "q8_0", "q4_0"]),
    ],
)
def test_only_types_that_can_be_are_compared(query: Query, names: list[str]) -> None:
    assert [alternative.name for alternative in answer(query).alternatives] == names
