"""What engines of checkpoints share: convolutions' columns, PyTorch's own memory, refusals."""

from __future__ import annotations

import pytest

from estimator.devices import device
from estimator.engines.checkpoint import columns, taps, widest
from estimator.engines.pytorch import torch_lines
from estimator.sources.catalogue import catalogue_model
from tests.estimator import samples


@pytest.mark.parametrize(
    ("id", "n_tap", "n_conv", "with_column"),
    [("qwen3.5-4b", 4, 24_576, 32_768), ("lfm2-1.2b", 3, 4096, 6144), ("llama-3.1-8b-instruct", 0, 0, 0)],
)
def test_states_have_a_column_more_than_llama_cpp_keeps(id: str, n_tap: int, n_conv: int, with_column: int) -> None:
    model = catalogue_model(id, "Q4_K_M")
    assert taps(model) == n_tap
    assert columns(model, n_conv) == with_column


@pytest.mark.parametrize(("id", "mib"), [("rtx-4090", 8.125), ("h100-sxm5-80-gb", 32)])
def test_pytorch_has_a_workspace_of_its_own(id: str, mib: float) -> None:
    lines = {line.label: line for line in torch_lines(device(id), "here")}
    assert lines["cuBLAS workspace"].bytes == mib * 2**20
    assert "CUDA context" in lines
    assert {line.device for line in lines.values()} == {"here"}


def test_the_widest_place_of_a_layer() -> None:
    assert widest(samples.layer()) == 3 * 14_336
    assert widest(samples.layer(n_ff=100)) == 32 * 256 + 2 * 8 * 128
    assert widest(samples.layer(n_ff=768, n_expert=128, n_expert_used=8)) == max(8 * 3 * 768, 32 * 256 + 2 * 8 * 128)
