"""What is loaded beside a model: each byte of it in lines of its own, the model's own lines as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from estimator import (
    Adapter,
    Companions,
    Draft,
    ModelError,
    Projector,
    Settings,
    SettingsError,
    curve,
    device,
    estimate,
    max_context,
    with_wired_limit,
)
from estimator.companions import MAX_ADAPTERS
from estimator.ggml import ElementType
from estimator.model import Tensor
from estimator.sources.catalogue import catalogue_model
from estimator.sources.from_gguf import model_from_header
from estimator.sources.gguf import GGUFHeader
from tests.estimator import truth

if TYPE_CHECKING:
    from estimator import Estimate, Line, Model

MIB = 2**20
T = ElementType
GENERIC = device("generic")
CARD = device("rtx-3090")
MODEL = catalogue_model("llama-3.1-8b-instruct", "Q4_K_M")
SMALL = catalogue_model("llama-3.2-1b-instruct", "Q4_K_M")
SETTINGS = Settings(n_ctx=8192)


def lines(found: Estimate, beginning: str) -> list[Line]:
    return [line for line in found.lines if line.label.startswith(beginning)]


def others(found: Estimate, beginning: str) -> list[Line]:
    return [line for line in found.lines if not line.label.startswith(beginning)]


def total(found: Estimate) -> int:
    return sum(share.total for share in (*found.devices, found.host))


def lora(*pairs: tuple[str, tuple[int, ...], tuple[int, ...]], architecture: str = "llama") -> Adapter:
    tensors = {name: (Tensor("a", a, T.F16), Tensor("b", b, T.F16)) for name, a, b in pairs}
    return Adapter("mine", architecture, tensors)


WHOLE = lora(*((f"blk.{il}.attn_q.weight", (4096, 16), (16, 4096)) for il in range(32)))


def test_without_companions_nothing_changes() -> None:
    assert estimate(MODEL, SETTINGS, [CARD], Companions()) == estimate(MODEL, SETTINGS, [CARD])


def test_a_draft_is_an_estimate_of_its_own() -> None:
    found = estimate(MODEL, SETTINGS, [GENERIC], Companions(draft=Draft(model=SMALL)))
    model = estimate(MODEL, replace(SETTINGS, n_outputs=16), [GENERIC])  # 4 slots, 3 tokens drafted in each
    draft = estimate(SMALL, replace(SETTINGS, n_outputs=4), [GENERIC])
    assert others(found, "Draft: ") == list(model.lines)
    assert lines(found, "Draft: ") == [replace(line, label=f"Draft: {line.label}") for line in draft.lines]
    assert total(found) == total(model) + total(draft)


@pytest.mark.parametrize("name", ["llama-3.1-8b-instruct", "llama-3.2-1b-instruct"])
def test_model_and_draft_are_what_llama_cpp_measures_of_each(name: str) -> None:
    """A context is measured by itself: as the draft of another model it takes the same."""
    cases = [case for case in truth.whole_cases(name, 1) if "error" not in case.breakdown]
    checked = 0
    for case in cases:
        how = case.settings
        if how.n_outputs != how.n_seq_max or how.n_seq_max != 1:
            continue
        draft = Draft(model=truth.model(name), cache_type_k=how.cache_type_k, cache_type_v=how.cache_type_v, n_max=2)
        plain = replace(how, cache_type_k="f16", cache_type_v="f16")
        found = lines(estimate(MODEL, plain, [GENERIC], Companions(draft=draft)), "Draft: ")
        measured = case.breakdown["devices"][0]
        sizes = {
            kind: sum(line.bytes for line in found if (line.device, line.kind) == ("generic", kind))
            for kind in ("weights", "kv_cache", "compute")
        }
        assert list(sizes.values()) == [measured["model"], measured["context"], measured["compute"]], case.text
        checked += 1
    assert checked > 3


def test_a_draft_has_types_layers_and_tensors_of_its_own() -> None:
    how = replace(SETTINGS, cache_type_k="q8_0", cache_type_v="q8_0", n_gpu_layers=10, cpu_tensors="ffn_up")
    draft = Draft(model=SMALL, cache_type_k="q8_0", n_gpu_layers=5)
    found = lines(estimate(MODEL, how, [GENERIC], Companions(draft=draft)), "Draft: ")
    alone = replace(SETTINGS, cache_type_k="q8_0", n_gpu_layers=5, n_outputs=4)
    assert [line.bytes for line in found] == [line.bytes for line in estimate(SMALL, alone, [GENERIC]).lines]


def test_a_draft_has_as_long_a_context_as_its_model() -> None:
    found = estimate(MODEL, Settings(), [GENERIC], Companions(draft=Draft(model=SMALL)))
    cache = next(line for line in found.lines if line.label.startswith("Draft") and line.kind == "kv_cache")
    assert cache.bytes == 131072 * 16 * 512 * 2


def test_layers_of_a_draft_are_shared_by_what_the_model_leaves() -> None:
    small, large = replace(GENERIC, capacity=6000 * MIB), replace(GENERIC, capacity=60_000 * MIB)
    how = replace(SETTINGS, tensor_split=None)
    found = estimate(MODEL, how, [small, large], Companions(draft=Draft(model=SMALL)))
    left = [
        device.capacity - sum(line.bytes for line in others(found, "Draft") if line.device == label)
        for device, label in ((small, "generic"), (large, "generic#2"))
        if device.capacity
    ]
    shares = [replace(device, capacity=room) for device, room in zip((small, large), left, strict=True)]
    alone = estimate(SMALL, replace(how, n_outputs=4), shares)
    assert [line.bytes for line in lines(found, "Draft")] == [line.bytes for line in alone.lines]


def test_more_tokens_drafted_ask_for_more_logits() -> None:
    assert Draft(model=SMALL).of_target(SETTINGS).n_outputs == 16
    assert Draft(model=SMALL, n_max=15).of_target(replace(SETTINGS, n_parallel=2)).n_outputs == 32
    assert Draft(model=SMALL, n_max=600).of_target(SETTINGS).n_outputs == 2048
    assert Draft(model=SMALL, n_max=15).of_target(replace(SETTINGS, n_outputs=7)).n_outputs == 7


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n_max": -1}, "draft.n_max"),
        ({"n_max": True}, "draft.n_max"),
        ({"n_max": 2**20}, "draft.n_max"),
        ({"cache_type_k": "q9"}, "cache_type_k"),
        ({"n_gpu_layers": -2}, "n_gpu_layers"),
    ],
)
def test_a_draft_that_cannot_be(given: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Draft(model=SMALL, **given)
    assert caught.value.field == field


def test_what_is_refused_of_the_draft_names_it() -> None:
    draft = Draft(model=SMALL, cache_type_v="q8_0")
    with pytest.raises(SettingsError) as caught:
        estimate(MODEL, replace(SETTINGS, flash_attn=False), [CARD], Companions(draft=draft))
    assert caught.value.field == "draft"
    assert caught.value.message.startswith("draft: ")


PROJECTOR = Projector("mmproj", (Tensor("v.patch", (14, 14, 3, 1152), T.F16), Tensor("mm.0", (1152, 2560), T.Q8_0)))


@pytest.mark.parametrize(
    ("card", "padded"),
    [
        (GENERIC, 1_354_752 + 3_133_440),
        (CARD, 1_354_752 + 3_133_440 + 12 * 34),  # 384 elements behind the last quantized row, then to 128 B
        (with_wired_limit(device("m1-16gb"), 12_000), 1_354_752 + 3_133_440),
    ],
)
def test_a_projector_lies_on_the_first_device(card: Any, padded: int) -> None:
    found = estimate(MODEL, SETTINGS, [card, card], Companions(projector=PROJECTOR))
    weights, compute, host = lines(found, "Projector")[:3]
    assert (weights.device, weights.kind, weights.basis) == (card.id, "weights", "modelled")
    assert padded <= weights.bytes < padded + 128
    assert (compute.device, compute.kind, compute.bytes, compute.basis) == (card.id, "compute", 1024 * MIB, "margin")
    assert (host.device, host.kind, host.bytes, host.basis) == ("host", "compute", 300 * MIB, "margin")
    assert others(found, "Projector") == list(estimate(MODEL, SETTINGS, [card, card]).lines)


@pytest.mark.parametrize(
    ("flash_attn", "measured"),
    [
        (True, (22_593_056, 29_388_800, 67_756_032, 127_139_840, 390_156_544, 739_025_728)),
        (False, (34_479_712, 84_033_600, 90_824_704, 1_186_988_032, 5_001_072_896, 5_108_210_240)),
    ],
)
def test_the_margin_of_a_projector_is_enough_for_those_that_were_measured(
    flash_attn: bool, measured: tuple[int, ...]
) -> None:
    """LLaVA 1.5, InternVL, Pixtral, Gemma 3, Qwen 3 VL and Qwen 2.5 VL, as llama.cpp warms them up."""
    how = replace(SETTINGS, flash_attn=flash_attn)
    found = lines(estimate(MODEL, how, [GENERIC], Companions(projector=PROJECTOR)), "Projector")
    margin = next(line.bytes for line in found if (line.device, line.kind) == ("generic", "compute"))
    assert max(measured) < margin < 2 * max(measured)


def test_a_projector_may_stay_on_the_host() -> None:
    found = estimate(MODEL, SETTINGS, [CARD], Companions(projector=PROJECTOR, offload_projector=False))
    assert {line.device for line in lines(found, "Projector")} == {"host"}
    assert found.devices == estimate(MODEL, SETTINGS, [CARD]).devices


def test_each_further_backend_has_a_workspace_of_its_own() -> None:
    found = estimate(MODEL, SETTINGS, [CARD], Companions(draft=Draft(model=SMALL), projector=PROJECTOR))
    workspaces = [line.bytes for line in found.lines if line.label.endswith("cuBLAS workspace")]
    assert workspaces == [4 * MIB] * 3
    assert len([line for line in found.lines if line.label.endswith("CUDA context")]) == 1


def test_an_adapter_lies_where_the_tensors_do() -> None:
    found = estimate(MODEL, SETTINGS, [GENERIC], Companions(adapters=(WHOLE,)))
    weights, compute = lines(found, "LoRA mine")
    assert (weights.device, weights.bytes, weights.basis) == ("generic", 32 * 2 * 4096 * 16 * 2, "exact")
    assert (compute.device, compute.bytes, compute.basis) == ("generic", (4096 + 16) * 512 * 4, "margin")
    assert others(found, "LoRA") == list(estimate(MODEL, SETTINGS, [GENERIC]).lines)
    partly = estimate(MODEL, replace(SETTINGS, n_gpu_layers=9), [GENERIC], Companions(adapters=(WHOLE, WHOLE)))
    held = {(line.device, line.bytes) for line in lines(partly, "LoRA mine") if line.kind == "weights"}
    assert held == {("generic", 8 * 2 * 4096 * 16 * 2), ("host", 24 * 2 * 4096 * 16 * 2)}


def test_an_adapter_of_tensors_on_the_host_and_of_the_output() -> None:
    n_vocab = MODEL.n_vocab
    odd = lora(
        ("token_embd.weight", (8, n_vocab), (8, 4096)),
        ("output.weight", (4096, 8), (8, n_vocab)),
        ("blk.3.ffn_up.weight", (4096, 8), (8, 14336)),
    )
    how = replace(SETTINGS, cpu_tensors=r"ffn_up")
    found = lines(estimate(MODEL, how, [GENERIC], Companions(adapters=(odd,))), "LoRA")
    held = {line.device: line.bytes for line in found if line.kind == "weights"}
    half = 8 * (n_vocab + 4096) * 2
    assert held == {"generic": half, "host": half + 8 * (4096 + 14336) * 2}


def test_an_adapter_of_experts_counts_those_that_are_used() -> None:
    model = catalogue_model("qwen3-30b-a3b", "Q4_K_M")
    adapter = lora(("blk.0.ffn_up_exps.weight", (2048, 4, 128), (4, 768, 128)), architecture="qwen3moe")
    weights, compute = lines(estimate(model, SETTINGS, [GENERIC], Companions(adapters=(adapter,))), "LoRA")
    assert weights.bytes == 128 * 4 * (2048 + 768) * 2
    assert compute.bytes == (8 * 768 + 4) * 512 * 4


def two_layers() -> Model:
    """A llama of two layers, 1024 wide, with f16 matrices."""
    shapes = {
        **dict.fromkeys(("attn_q", "attn_output"), (1024, 1024)),
        **dict.fromkeys(("attn_k", "attn_v"), (1024, 256)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (1024, 4096)),
        "ffn_down": (4096, 1024),
    }
    tensors = [
        Tensor("token_embd.weight", (1024, 1000), T.F16),
        Tensor("output.weight", (1024, 1000), T.F16),
        Tensor("output_norm.weight", (1024,), T.F32),
        *(Tensor(f"blk.{il}.{name}.weight", shape, T.F16) for il in range(2) for name, shape in shapes.items()),
        *(Tensor(f"blk.{il}.{name}_norm.weight", (1024,), T.F32) for il in range(2) for name in ("attn", "ffn")),
    ]
    facts = {"block_count": 2, "context_length": 8192, "embedding_length": 1024, "feed_forward_length": 4096}
    heads = {"attention.head_count": 16, "attention.head_count_kv": 4}
    metadata = {f"llama.{name}": value for name, value in {**facts, **heads}.items()}
    header = GGUFHeader(3, True, 32, {"general.architecture": "llama", **metadata}, {}, tuple(tensors), 0)
    return model_from_header(header)


@pytest.mark.parametrize(
    ("n_gpu_layers", "names", "rank", "measured", "grown"),
    [
        (3, ["attn_q"], 16, {"generic": 131_072}, 0),
        (3, ["ffn_down"], 16, {"generic": 327_680}, 0),
        (2, ["attn_q"], 16, {"generic": 65_536, "host": 65_536}, 32_768),
        (2, ["ffn_down"], 16, {"generic": 163_840, "host": 163_840}, 4_390_912),
        (2, ["ffn_up", "ffn_down"], 256, {"generic": 5_242_880, "host": 5_242_880}, 7_340_032),
        (1, ["ffn_down"], 16, {"host": 327_680}, 229_632),
        (0, ["ffn_down"], 16, {"host": 327_680}, 0),
    ],
)
def test_adapters_as_llama_cpp_loads_them(
    n_gpu_layers: int, names: list[str], rank: int, measured: dict[str, int], grown: int
) -> None:
    """Measured with an adapter of that rank: its buffers, and by how much the device's compute buffer grew."""
    model = two_layers()
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    adapted = [f"blk.{il}.{name}.weight" for il in range(2) for name in names]
    adapter = lora(*((name, (shapes[name][0], rank), (rank, shapes[name][1])) for name in adapted))
    how = Settings(n_ctx=4096, n_gpu_layers=n_gpu_layers)
    found = lines(estimate(model, how, [GENERIC], Companions(adapters=(adapter,))), "LoRA")
    assert {line.device: line.bytes for line in found if line.kind == "weights"} == measured
    margin = sum(line.bytes for line in found if (line.device, line.kind) == ("generic", "compute"))
    assert grown <= margin < 80 * MIB


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        (lora(architecture="qwen3"), "qwen3"),
        (lora(("blk.40.attn_q.weight", (4096, 16), (16, 4096))), "blk.40.attn_q.weight"),
        (lora(("blk.0.attn_q.weight", (2048, 16), (16, 4096))), "blk.0.attn_q.weight"),
        (lora(("blk.0.attn_q.weight", (4096, 16), (16, 2048))), "blk.0.attn_q.weight"),
        (lora(("blk.0.attn_q.weight", (4096, 16), (8, 4096))), "blk.0.attn_q.weight"),
        (lora(("token_embd.weight", (4096, 16), (16, MODEL.n_vocab))), "token_embd.weight"),
    ],
)
def test_an_adapter_of_another_model(adapter: Adapter, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        estimate(MODEL, SETTINGS, [CARD], Companions(adapters=(adapter,)))
    assert (caught.value.code, caught.value.field) == ("wrong-lora", "lora")
    assert says in caught.value.message


def test_the_number_of_adapters_is_bounded() -> None:
    Companions(adapters=(WHOLE,) * MAX_ADAPTERS)
    with pytest.raises(SettingsError, match="17"):
        Companions(adapters=(WHOLE,) * (MAX_ADAPTERS + 1))


def test_companions_leave_less_context() -> None:
    beside = Companions(draft=Draft(model=SMALL), projector=PROJECTOR, adapters=(WHOLE,))
    deepest = max_context(MODEL, SETTINGS, [CARD], beside)
    assert 0 < deepest < max_context(MODEL, SETTINGS, [CARD])
    assert estimate(MODEL, replace(SETTINGS, n_ctx=deepest), [CARD], beside).fits
    assert not estimate(MODEL, replace(SETTINGS, n_ctx=deepest + 256), [CARD], beside).fits
    for point in curve(MODEL, SETTINGS, [CARD], 16384, beside):
        assert point.estimate == estimate(MODEL, replace(SETTINGS, n_ctx=point.n_ctx), [CARD], beside)
