"""What llama.cpp b11434 answers where the stored measurements have no case that tells the same: asked by hand."""

from __future__ import annotations

import pytest

from estimator.devices import GENERIC
from estimator.estimate import estimate
from tests.estimator import truth
from tests.estimator.truth import Case


@pytest.mark.parametrize(
    ("name", "case", "device", "host"),
    [
        # the norm before the feed-forward has another name, and lies on the host with the rest of the layer
        ("seed-oss-36b-instruct", "c=4096 ub=512 np=2 no=2 ot=blk[.]30[.]", 213_923_840, 224_413_728),
        ("glm-4.5-air", "c=16384 ub=512 np=5 no=5 kvu=1 ot=blk[.]8[.]", 187_754_624, 164_554_976),
        # the softmax of all scores is computed where the sinks are
        ("gpt-oss-20b", "c=4096 ub=512 np=1 no=1 fa=0 ot=blk[.]17[.]", 591_411_200, 562_841_632),
        # the residual is copied to the device before the result of the feed-forward
        ("phi-3-mini-4k-instruct", "c=8192 ub=1024 np=1 no=0 kvu=1 ngl=32", 169_082_880, 180_396_032),
        # a gated delta net is normed where it was computed, and weighed on the host
        ("qwen35-dense", "c=4096 b=2 ub=2 np=1 no=1 ot=ssm_", 303_168, 42_240),
        # Q and K of a single token are whole rows, so they are rotated where they lie
        ("starcoder-dense", "c=18573 b=1 ub=1 np=1 no=1 ctk=q5_1 ctv=f32 kvu=1", 9_674_336, 108_256),
    ],
)
def test_compute_buffers(name: str, case: str, device: int, host: int) -> None:
    found = estimate(truth.model(name), Case(case, {}).settings, [GENERIC])
    assert (found.devices[0].compute, found.host.compute) == (device, host)
