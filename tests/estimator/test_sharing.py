"""Several devices that share a model: whose layers, whose limit, what a pipeline costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.companions import Companions, Projector
from estimator.devices import device
from estimator.estimate import estimate, placed
from estimator.fit import max_context
from estimator.settings import Settings
from estimator.sharing import parts
from estimator.sources.catalogue import catalogue_model

LLAMA = catalogue_model("llama-3.3-70b-instruct", "Q4_K_M")
RUN = Settings(n_ctx=8192)
CARDS = [device("rtx-4090"), device("rtx-3060-12-gb"), device("rtx-3090")]

RUNS = {
    "whole": RUN,
    "split": replace(RUN, tensor_split=(3, 1, 2)),
    "partly on the host": replace(RUN, n_gpu_layers=60),
    "experts on the host": replace(RUN, cpu_tensors=r"blk\.\d\.ffn"),
}


@pytest.mark.parametrize("run", RUNS)
def test_every_layer_is_somewhere_once(run: str) -> None:
    found = parts(LLAMA, RUNS[run], CARDS)
    first = 81 - RUNS[run].n_gpu_layers if RUNS[run].n_gpu_layers >= 0 else 0
    assert [il for part in found for il in part.layers] == list(range(first, 80))
    assert [part.has_output for part in found] == [False, False, True]
    assert [part.label for part in found] == [card.id for card in CARDS]


@pytest.mark.parametrize("run", RUNS)
def test_the_least_of_their_limits_is_the_limit(run: str) -> None:
    found = parts(LLAMA, RUNS[run], CARDS)
    assert min(part.max_context for part in found) == max_context(LLAMA, RUNS[run], CARDS)
    assert len({part.max_context for part in found}) > 1


@pytest.mark.parametrize("run", RUNS)
def test_counted_layers_are_the_same_split(run: str) -> None:
    where = placed(LLAMA, RUNS[run], CARDS)
    split = replace(RUNS[run], tensor_split=where.counts(len(CARDS)))
    assert placed(LLAMA, split, CARDS).layers == where.layers
    assert estimate(LLAMA, split, CARDS).devices == estimate(LLAMA, RUNS[run], CARDS).devices


@pytest.mark.parametrize(
    ("run", "is_pipelined"),
    [
        (RUN, True),
        (replace(RUN, n_gpu_layers=80), False),
        (replace(RUN, offload_kqv=False), False),
        (replace(RUN, cpu_tensors=r"blk\.0\.ffn_up"), False),
    ],
)
def test_what_switches_the_pipeline_off(run: Settings, *, is_pipelined: bool) -> None:
    """llama-context.cpp:432-448: all layers on devices, the cache too, and nothing kept by a pattern."""
    found = parts(LLAMA, run, CARDS)
    assert all((part.copies > 0) == is_pipelined for part in found)


def test_copies_grow_with_the_context() -> None:
    """The mask that each batch of the pipeline has grows with the context: 3 copies of 2 bytes for a cell and row."""
    less, more = (parts(LLAMA, replace(RUN, n_ctx=n_ctx), CARDS)[0].copies for n_ctx in (8192, 16384))
    assert more - less >= 3 * 8192 * 512 * 2


def test_what_is_loaded_beside_takes_depth() -> None:
    """A projector lies on the first device; a draft has a part on each."""
    beside = Companions(projector=Projector.of_size(851 * 2**20))
    alone, found = parts(LLAMA, RUN, CARDS), parts(LLAMA, RUN, CARDS, beside)
    assert found[0].max_context < alone[0].max_context
    assert [part.max_context for part in found[1:]] == [part.max_context for part in alone[1:]]
    assert min(part.max_context for part in found) == max_context(LLAMA, RUN, CARDS, beside)


def test_one_device_has_it_all() -> None:
    (part,) = parts(LLAMA, RUN, CARDS[:1])
    assert (part.layers, part.has_output, part.copies) == (tuple(range(80)), True, 0)


def test_a_device_without_layers() -> None:
    found = parts(LLAMA, replace(RUN, tensor_split=(1, 0, 0)), CARDS)
    assert [part.layers for part in found[1:]] == [(), ()]
    assert all(part.max_context > LLAMA.context_length for part in found[1:])
