"""What follows from a model's tensors and layers."""

from __future__ import annotations

import pytest

from estimator.ggml import ElementType
from estimator.model import Tensor
from tests.estimator import samples


@pytest.mark.parametrize(
    ("shape", "element_type", "n_elements", "n_bytes"),
    [
        ((4096, 14336), ElementType.BF16, 58_720_256, 117_440_512),
        ((4096, 14336), ElementType.Q4_K, 58_720_256, 33_030_144),
        ((64, 3, 5), ElementType.Q8_0, 960, 1020),
        ((7,), ElementType.F32, 7, 28),
    ],
)
def test_tensor(shape: tuple[int, ...], element_type: ElementType, n_elements: int, n_bytes: int) -> None:
    tensor = Tensor("t", shape, element_type)
    assert (tensor.n_elements, tensor.n_bytes) == (n_elements, n_bytes)


def test_widths_of_a_layer() -> None:
    layer = samples.layer(n_head_kv=8, n_embd_head_k=192, n_embd_head_v=128)
    assert (layer.n_embd_k_gqa, layer.n_embd_v_gqa) == (1536, 1024)


def test_sums_over_a_model() -> None:
    model = samples.model(samples.layer(), samples.layer(n_head_kv=16), samples.layer(n_head_kv=2))
    elements = 2 * 4096 * 1024 + 3 * 4096 * 128
    assert (model.n_layer, model.parameters, model.weights_bytes) == (3, elements, 2 * elements)
    assert model.n_embd_v_gqa_max == 2048


def test_layers_by_kind() -> None:
    wide, narrow = samples.layer(), samples.layer(n_head_kv=2)
    model = samples.model(wide, narrow, samples.layer(), narrow)
    assert model.kinds == (wide, narrow)
    assert model.layer_kinds == (0, 1, 0, 1)


def test_the_output_is_tied_where_it_has_no_matrix() -> None:
    embedding = Tensor("token_embd.weight", (64, 8), ElementType.F16)
    norm = Tensor("output_norm.weight", (64,), ElementType.F32)
    output = Tensor("output.weight", (64, 8), ElementType.F16)
    assert samples.model(samples.layer(), tensors=(embedding, norm)).has_tied_output
    assert not samples.model(samples.layer(), tensors=(embedding, norm, output)).has_tied_output


def test_equal_models_are_different_keys() -> None:
    one, two = samples.model(samples.layer()), samples.model(samples.layer())
    assert one != two
    assert len({one, two, one}) == 2
