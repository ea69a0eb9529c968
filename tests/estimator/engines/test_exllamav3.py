"""ExLlamaV3's cache by the shapes of its source, where its layers go, what it refuses, and its recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from estimator.capacity import GIB
from estimator.devices import device
from estimator.engines.base import Run
from estimator.engines.exllamav3 import Exllamav3
from estimator.engines.recipe import Source
from estimator.errors import DeviceError, SettingsError
from estimator.ggml import ElementType
from estimator.model import Tensor
from estimator.sources.catalogue import catalogue_model
from estimator.usage import Usage, used
from tests.estimator import samples
from tests.estimator.engines.reference import keywords, listed, options, value, version

if TYPE_CHECKING:
    from estimator.engines.result import Result
    from estimator.model import Model

EXL = Exllamav3()
GENERIC = samples.device("generic")
CARD = device("rtx-4090")
DENSE = samples.model(*[samples.layer()] * 4)


def found(model: Model, run: Run) -> Result:
    return EXL.estimate(model, run, [GENERIC])


def line(result: Result, label: str, device: str = "") -> int:
    return sum(line.bytes for line in result.lines if line.label == label and device in ("", line.device))


def catalogued(id: str) -> Model:
    return catalogue_model(id, "Q4_K_M")


def test_it_is_the_version_whose_options_are_listed() -> None:
    assert EXL.version == version("exllamav3")


# --- the cache


@pytest.mark.parametrize(
    ("kind", "size"),
    [("fp16", 256), ("q8", 136), ("q7", 120), ("q6", 104), ("q5", 88), ("q4", 72), ("q3", 56), ("q2", 40)],
)
def test_bytes_of_a_head_of_128(kind: str, size: int) -> None:
    """1.0625, 0.8125, 0.6875, 0.5625, 0.4375 and 0.3125 B an element."""
    type_k = EXL.cache_type(kind)
    assert type_k
    assert type_k.k.row_bytes(128) == type_k.v.row_bytes(128) == size


@pytest.mark.parametrize(("n_ctx", "tokens"), [(1, 256), (256, 256), (257, 512), (8192, 8192)])
def test_pages_of_256_tokens(n_ctx: int, tokens: int) -> None:
    result = found(DENSE, Run(n_ctx=n_ctx))
    assert result.n_ctx == tokens
    assert result.devices[0].kv_cache == tokens * 4 * 8 * 256 * 2


def test_k_and_v_are_apart() -> None:
    result = found(DENSE, Run(n_ctx=8192, cache_type_k="q8", cache_type_v="q4"))
    assert result.devices[0].kv_cache == 8192 * 4 * 8 * (136 + 72)


def test_requests_share_the_cache() -> None:
    one, many = (found(DENSE, Run(n_ctx=8192, n_requests=n)) for n in (1, 8))
    assert one.devices[0].kv_cache == many.devices[0].kv_cache


@pytest.mark.parametrize(("kind", "row"), [("fp16", 1152), ("q8", 672), ("q6", 544), ("q4", 416)])
def test_latents(kind: str, row: int) -> None:
    """The figures of cache/mla.py for 512 + 64; the bits of V are not read."""
    model = catalogued("deepseek-v3")
    other = "fp16" if kind == "fp16" else "q2"
    for v in (kind, other):
        assert found(model, Run(n_ctx=1024, cache_type_k=kind, cache_type_v=v)).devices[0].kv_cache == 1024 * 61 * row


def test_keys_of_an_indexer_stay_at_16_bits() -> None:
    """21 of 78 layers have one in GLM 5.2."""
    result = found(catalogued("glm-5.2"), Run(n_ctx=1024, cache_type_k="q8"))
    assert result.devices[0].kv_cache == 1024 * (78 * 672 + 21 * 256)


def test_rings_of_windows_are_for_each_request_and_stay_at_16_bits() -> None:
    """gpt-oss: 12 windows of 128 and 12 whole layers; a ring has 512 tokens more, in whole pages."""
    model = catalogued("gpt-oss-20b")
    for n_requests in (1, 16):
        result = found(model, Run(n_ctx=8192, n_requests=n_requests, cache_type_k="q8"))
        assert line(result, "Rings of windows") == n_requests * 12 * 768 * 8 * 64 * 2 * 2
        assert line(result, "Cache of attention") == 12 * 8192 * 8 * 2 * 68
    whole = found(model, Run(n_ctx=8192, cache_type_k="q8", options={"swa_full": True}))
    assert whole.devices[0].kv_cache == 24 * 8192 * 8 * 2 * 68
    assert (whole.host.recurrent_state, result.host.recurrent_state) == (0, 4 * GIB)


def test_windows_of_gemma_3_are_whole_layers() -> None:
    result = found(catalogued("gemma-3-4b-it"), Run(n_ctx=8192, cache_type_k="q8"))
    assert result.devices[0].kv_cache == 34 * 8192 * 4 * 2 * 272


def test_v_is_as_wide_as_k() -> None:
    """MiMo V2: heads of 192 and 128; a ring of 128 + 512 tokens."""
    result = found(catalogued("mimo-v2-flash"), Run(n_ctx=1024))
    assert result.devices[0].kv_cache == (9 * 1024 * 4 + 39 * 768 * 8) * 192 * 2 * 2


@pytest.mark.parametrize(("wide", "size"), [(False, 2), (True, 4)])
def test_states_are_two_for_each_request(wide: bool, size: int) -> None:
    run = Run(n_ctx=1024, n_requests=3, options={"recurrent_state_fp32": wide})
    state = found(catalogued("qwen3.5-4b"), run).devices[0].recurrent_state
    assert state == 3 * 24 * (32_768 * 2 + 2 * 524_288 * size)


def test_states_of_mamba_2_are_f32() -> None:
    state = found(catalogued("nvidia-nemotron-nano-9b-v2"), Run(n_ctx=1024)).devices[0].recurrent_state
    assert state == 27 * (12_288 * 4 * 2 + 2 * 1_310_720 * 4)


@pytest.mark.parametrize(
    ("n_embd_head", "is_online"), [(64, True), (128, True), (512, True), (80, False), (544, False)]
)
def test_heads_that_are_not_read_as_stored(n_embd_head: int, is_online: bool) -> None:
    model = samples.model(samples.layer(n_embd_head_k=n_embd_head, n_embd_head_v=n_embd_head))
    size = line(found(model, Run(n_ctx=1024, cache_type_k="q8")), "One layer at 16 bits")
    assert size == (0 if is_online else 1024 * 8 * n_embd_head * 2 * 2)
    assert line(found(model, Run(n_ctx=1024)), "One layer at 16 bits") == 0


def test_latents_are_read_as_stored() -> None:
    assert line(found(catalogued("deepseek-v3"), Run(n_ctx=1024, cache_type_k="q8")), "One layer at 16 bits") == 0


def test_32_rows_of_logits() -> None:
    assert line(found(DENSE, Run(n_ctx=1024)), "Logits") == 32 * 1024 * 4


# --- weights


def test_layers_that_predict_further_tokens_are_not_loaded() -> None:
    further = Tensor("blk.4.attn_q.weight", (4096, 4096), ElementType.F16)
    model = replace(DENSE, tensors=(*DENSE.tensors, further), n_nextn_layers=1)
    assert found(model, Run(n_ctx=256)).devices[0].weights == found(DENSE, Run(n_ctx=256)).devices[0].weights


def test_embeddings_are_in_system_memory() -> None:
    model = catalogued("llama-3.1-8b-instruct")
    result = found(model, Run(n_ctx=256))
    assert result.host.weights == 128_256 * 4096 * 2
    assert line(result, "Embedding", "generic") == 0


@pytest.mark.parametrize(("form", "bits"), [("exl3-4", 4), ("exl3-2.5", 2.5), ("exl3-8", 8)])
def test_bits_of_weights_and_of_the_output_matrix(form: str, bits: float) -> None:
    model = catalogued("llama-3.1-8b-instruct")
    result = found(model, Run(n_ctx=256, weight_format=form))
    rows = 32 * (4096 + 1024 + 1024 + 4096 + 14_336 + 14_336 + 4096)
    elements = 32 * (4096 * (4096 + 1024 + 1024 + 4096 + 14_336 * 3))
    assert line(result, "Matrices of layers") == elements * bits / 8 + rows * 2
    assert line(result, "Output matrix") == 128_256 * (4096 * 6 // 8 + 2)


def test_a_tied_embedding_is_an_output_matrix_of_its_own() -> None:
    model = catalogued("gemma-3-4b-it")
    assert model.has_tied_output
    result = found(model, Run(n_ctx=256, weight_format="exl3-4"))
    assert line(result, "Output matrix") == model.n_vocab * (model.n_embd * 6 // 8 + 2)


def test_experts_of_the_first_layers_are_in_system_memory() -> None:
    model = catalogued("qwen3-30b-a3b")
    all_here, some = (found(model, Run(n_ctx=256, options={"moe_cpu_offload": n})) for n in (0, 12))
    assert line(some, "Experts", "host") * 4 == line(all_here, "Experts")
    assert line(some, "Experts") == line(all_here, "Experts")


# --- devices


def test_layers_fill_one_device_after_the_other() -> None:
    model = catalogued("llama-3.1-70b-instruct")
    result = EXL.estimate(model, Run(n_ctx=32_768, cache_type_k="q8", weight_format="exl3-4"), [CARD, CARD])
    first, second = result.devices
    assert result.fits
    layer = first.kv_cache // (32_768 * 8 * 2 * 136)
    assert first.kv_cache + second.kv_cache == 80 * 32_768 * 8 * 2 * 136
    one = (first.weights + first.kv_cache) // layer
    assert first.total <= (first.capacity or 0) < first.total + one
    assert line(result, "Output matrix", first.label) == 0
    assert line(result, "Output matrix", second.label) > 0


def test_a_device_that_is_not_needed_holds_nothing() -> None:
    result = EXL.estimate(catalogued("llama-3.1-8b-instruct"), Run(n_ctx=8192), [CARD, CARD])
    assert result.devices[1].total == 0


def test_what_others_keep_of_a_device_is_not_filled() -> None:
    model = catalogued("llama-3.1-70b-instruct")
    run = Run(n_ctx=8192, weight_format="exl3-4")
    shared = used(CARD, Usage(system="windows"))
    less, more = (EXL.estimate(model, run, [one, CARD]).devices[0].weights for one in (shared, CARD))
    assert less < more


def test_half_a_gib_stays_free() -> None:
    result = EXL.estimate(DENSE, Run(n_ctx=8192), [CARD])
    assert [row.bytes for row in result.lines if row.label == "Reserve"] == [GIB // 2]
    assert not [row for row in found(DENSE, Run()).lines if row.label == "Reserve"]


# --- refusals


@pytest.mark.parametrize("id", ["deepseek-v2-lite", "youtu-llm-2b", "olmo-2-1124-7b-instruct", "gemma-2b-it", "bge-m3"])
def test_what_it_has_no_model_for(id: str) -> None:
    with pytest.raises(SettingsError) as caught:
        found(catalogued(id), Run(n_ctx=512))
    assert (caught.value.code, caught.value.field) == ("not-in-engine", "engine")


@pytest.mark.parametrize("id", ["deepseek-v3", "kimi-k2-instruct", "olmo-3-7b-instruct", "mixtral-8x7b-v0.1"])
def test_what_goes_by_the_same_name_in_llama_cpp(id: str) -> None:
    assert found(catalogued(id), Run(n_ctx=512))


@pytest.mark.parametrize(("k", "v", "field"), [("q8", "fp16", "cache_type_v"), ("fp16", "q8", "cache_type_k")])
def test_half_of_a_cache_is_not_quantized(k: str, v: str, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        found(DENSE, Run(cache_type_k=k, cache_type_v=v))
    assert (caught.value.code, caught.value.field) == ("half-quantized", field)
    assert "fp16" not in (caught.value.allowed or ())


def test_other_backends() -> None:
    with pytest.raises(DeviceError, match="CUDA"):
        EXL.estimate(DENSE, Run(), [device("m3-max-14c-36gb")])


@pytest.mark.parametrize(
    ("asked", "near"), [("q8_0", "q8"), ("q4_0", "q4"), ("q5_1", "q5"), ("q4_1", "q4"), ("f16", "fp16")]
)
def test_the_nearest_of_llama_cpps_types(asked: str, near: str) -> None:
    assert EXL.nearest_cache_type(asked).id == near


@hypothesis(deadline=None, max_examples=30)
@given(n_ctx=st.integers(1, 100_000), more=st.integers(0, 50_000), n_devices=st.integers(1, 3))
def test_more_context_never_needs_less(n_ctx: int, more: int, n_devices: int) -> None:
    """On all devices together: a layer may go to the next one."""
    devices = [CARD] * n_devices

    def total(tokens: int) -> int:
        result = EXL.estimate(DENSE, Run(n_ctx=tokens), devices)
        return sum(share.total for share in result.devices)

    assert total(n_ctx) <= total(n_ctx + more)


def test_the_deepest_context_of_two_devices() -> None:
    model, run = catalogued("llama-3.1-70b-instruct"), Run(cache_type_k="q6", weight_format="exl3-4")
    deepest = EXL.max_context(model, run, [CARD, CARD])
    assert EXL.estimate(model, replace(run, n_ctx=deepest), [CARD, CARD]).fits
    assert not EXL.estimate(model, replace(run, n_ctx=deepest + 256), [CARD, CARD]).fits


# --- recipes

FULL = Run(
    n_ctx=32_700,
    n_requests=4,
    chunk=2048,
    cache_type_k="q8",
    cache_type_v="q4",
    options={"swa_full": True, "recurrent_state_fp32": True, "moe_cpu_offload": 3, "recurrent_cache_size": 1.5},
)


@pytest.mark.parametrize("run", [Run(n_ctx=8192), FULL])
def test_options_exist(run: Run) -> None:
    chat, python = EXL.recipes(EXL.job(DENSE, run, [GENERIC]), Source(repo="org/model"))
    assert options(chat.text) <= listed("exllamav3", "command", "chat.py")
    for function in ("Cache", "load", "Generator", "generate"):
        assert set(keywords(python.text, function)) <= listed("exllamav3", "function", function)


def test_a_full_command() -> None:
    chat, python = EXL.recipes(EXL.job(DENSE, FULL, [GENERIC]), Source(repo="org/model"))
    assert chat.text == (
        "python examples/chat.py -m model -cs 32768 -chunk_size 2048 -ambs 4 -cq 8,4 -swa_full -rs32 -mcl 3 -rcs 1.5"
    )
    assert keywords(python.text, "Cache") == {
        "max_num_tokens": "32768",
        "max_batch_size": "4",
        "layer_type": "CacheLayer_quant",
        "k_bits": "8",
        "v_bits": "4",
        "recurrent_dtype": "torch.float",
    }
    assert keywords(python.text, "from_config") == {"swa_full": "True"}


def test_a_folder_is_named_after_the_repository() -> None:
    job = EXL.job(DENSE, Run(), [GENERIC])
    assert value(EXL.recipes(job, Source(repo="org/a b"))[0].text, "-m") == "a b"
    assert value(EXL.recipes(job, Source())[0].text, "-m") == "MODEL_DIR"
