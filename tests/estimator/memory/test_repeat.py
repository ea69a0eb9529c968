"""Some layers stand for all: which are kept. That they reach the highest byte is tested with the graph."""

from __future__ import annotations

from estimator.memory.alloc import HOST
from estimator.memory.placement import Place
from estimator.memory.repeat import CONTEXT, Placed, representative

FIRST, SECOND, ON_HOST = Place(0), Place(1), Place(HOST)


def test_few_layers_are_laid_out_for_many() -> None:
    kept = representative((0,) * 126, (FIRST,) * 60 + (SECOND,) * 66)
    assert len(kept) < 30
    assert kept[-1] == Placed(0, SECOND)
    assert {layer.place for layer in kept} == {FIRST, SECOND}


def test_a_unit_of_several_layers_repeats() -> None:
    kept = representative(((0,) * 5 + (1,)) * 10, (FIRST,) * 60)
    assert len(kept) < 40
    assert {layer.kind for layer in kept} == {0, 1}
    assert kept[-1] == Placed(1, FIRST)


def test_every_place_is_kept() -> None:
    with_experts_on_host = Place(0, frozenset({"ffn_up_exps"}))
    kept = representative((0,) * 64, (ON_HOST,) * 16 + (with_experts_on_host,) * 16 + (FIRST,) * 32)
    assert {layer.place for layer in kept} == {ON_HOST, with_experts_on_host, FIRST}
    assert len(kept) < 40


def test_special_layers_stay() -> None:
    kept = representative((0,) * 40, (FIRST,) * 40, n_special=3)
    assert 3 < len(kept) < 20


def test_few_layers_are_all_kept() -> None:
    assert representative((0, 1), (FIRST, FIRST)) == (Placed(0, FIRST), Placed(1, FIRST))
    assert representative((0,), (SECOND,)) == (Placed(0, SECOND),)


def kept(kinds: str) -> str:
    found = representative(tuple(map(int, kinds)), (FIRST,) * len(kinds))
    return "".join(str(layer.kind) for layer in found)


def contexts(kinds: str) -> set[str]:
    return {kinds[il - CONTEXT : il + 1] for il in range(CONTEXT, len(kinds))}


def test_every_layer_is_seen_behind_all_that_it_follows() -> None:
    nemotron = "0101021010102101010210101021010102101010102101010101" * 3 + "2101"
    found = kept(nemotron)
    assert len(found) < len(nemotron) // 3
    assert contexts(found[:-1]) == contexts(nemotron[:-1])
    assert (found[:CONTEXT], found[-1]) == (nemotron[:CONTEXT], nemotron[-1])


def test_a_group_that_repeats_too_seldom_to_be_shortened_otherwise() -> None:
    granite = "0000010000" * 4
    assert contexts(kept(granite)[:-1]) == contexts(granite[:-1])
    assert len(kept(granite)) == 20


def test_layers_that_are_all_unlike_stay() -> None:
    for kinds in ("0", "01", "0123456789", "0011223344556677"):
        assert kept(kinds) == kinds
