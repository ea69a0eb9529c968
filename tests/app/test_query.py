"""The query: what is read, what is refused and how, and its one canonical form."""

from __future__ import annotations

import base64
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.beside import MAX_PROJECTOR, SIZE
from app.errors import FIELD_OF, RequestError
from app.hub import MAX_NAME
from app.parsing import MAX_TEXT, UBATCH, parse, takes
from app.query import OWN_FIELDS, Query, checked, own_options
from app.values import MAX_BANDWIDTH, SHARE, TAKEN, cache_type
from estimator import Settings, device, devices
from estimator.engines.base import Run
from estimator.engines.registry import ENGINES
from estimator.engines.vllm import Vllm
from estimator.estimate import MAX_DEVICES
from estimator.ggml import CACHE_TYPES
from estimator.sources.facts import MAX_TEXT as MAX_FACTS
from estimator.sources.facts import facts_text
from estimator.sources.gguf import read_header
from estimator.sources.hparams import MAX_LAYERS
from estimator.sources.ollama import is_library_name
from estimator.sources.quantize import FILE_TYPES
from estimator.usage import SYSTEMS

if TYPE_CHECKING:
    from estimator.engines.options import Option, Value

FACTS = facts_text(read_header(Path(__file__).parents[1] / "data" / "gguf" / "llama-dense.gguf"))
NAMES = (
    *(field.name for field in fields(Query) if field.name != "options"),
    *(option.name for option in own_options(ENGINES[0])),
)
TYPES = tuple(one.id for one in ENGINES[0].cache_types)
"""The K/V types of llama-server, as it offers them."""
VLLM_TYPES = tuple(one.id for one in Vllm.cache_types)
VLLM_FORMATS = tuple(one.id for one in Vllm.weight_formats)

numbers = st.integers(0, 10**10 - 1)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_TEXT // 4).map(lambda name: name.strip().lower())


def is_an_id(name: str) -> bool:
    """Whether a name is taken as it stands."""
    return bool(name) and name == name.strip().lower() and "/" not in name and not is_library_name(name)


hub_names = st.from_regex(r"[A-Za-z0-9]{1,8}/[A-Za-z0-9]{1,8}(/[a-z0-9 ]{1,8}\.gguf)?(@[a-z0-9]{1,8})?", fullmatch=True)
models = st.fixed_dictionaries({"facts": st.just(FACTS)}) | st.fixed_dictionaries(
    {
        "model": names.filter(is_an_id) | hub_names,
        "quant": st.sampled_from(FILE_TYPES),
    }
)
states = st.builds(
    Query,
    ctx=numbers,
    kv=st.tuples(st.sampled_from(CACHE_TYPES), st.sampled_from(CACHE_TYPES)),
    fa=st.booleans(),
    ub=st.just(-1) | numbers.filter(lambda n: n != UBATCH),
    np=st.just(-1) | numbers,
    ngl=st.just(-1) | numbers,
    ncmoe=st.integers(-1, MAX_LAYERS),
    ncffn=st.integers(0, MAX_LAYERS),
    kvo=st.booleans(),
    device=st.lists(st.sampled_from([one.id for one in devices()] + ["generic"]), min_size=1, max_size=MAX_DEVICES).map(
        tuple
    ),
    ts=st.lists(st.integers(0, 10**6 - 1) | st.integers(1, 10**8).map(lambda n: n / 10**4), max_size=MAX_DEVICES)
    .filter(lambda shares: not shares or any(shares))
    .map(lambda shares: tuple(int(share) if share == int(share) else share for share in shares)),
    os=st.sampled_from(SYSTEMS),
    desktop=st.booleans(),
    ecc=st.booleans(),
    taken=st.lists(st.integers(0, 10**9 - 1), max_size=MAX_DEVICES)
    .filter(lambda sizes: not sizes or bool(sizes[-1]))
    .map(tuple),
    wired=numbers,
    gtt=numbers,
    ram=st.integers(0, MAX_BANDWIDTH),
    draft=st.sampled_from(["", "qwen3-0.6b", "qwen3-0.6b:Q8_0"]),
    mmproj=st.integers(0, MAX_PROJECTOR),
)


@st.composite
def run_by(draw: st.DrawFn, query: Query) -> Query:
    """The state with an engine, and what that has: cache types, formats of weights, options of its own."""
    runs = draw(st.sampled_from(ENGINES))
    state: dict[str, Any] = {field.name: field.default for field in fields(Query) if not takes(runs, field.name)}
    types = st.sampled_from(runs.cache_types).map(lambda one: cache_type(one.id, runs))
    given = {option: draw(st.just(option.default) | a_value_of(option)) for option in own_options(runs)}
    state["engine"] = runs.id
    state["kv"] = draw(types), draw(types)
    state["weights"] = draw(st.sampled_from(["", *(one.id for one in runs.weight_formats)]))
    state["options"] = tuple((option.name, value) for option, value in given.items() if value != option.default)
    return replace(query, **state)


def a_value_of(option: Option) -> st.SearchStrategy[Value]:
    """A value that an option takes."""
    if option.kind == "switch":
        return st.booleans()
    if option.kind == "choice":
        return st.sampled_from(option.choices)
    if option.kind == "whole":
        return st.integers(int(option.low), int(option.high))
    return st.integers(1, 99).map(lambda part: round(option.low + (option.high - option.low) * part / 100, 4))


queries = st.builds(lambda query, model: replace(query, **model), states.flatmap(run_by), models)


def read(text: str) -> Query:
    """The query of a link."""
    return parse(parse_qs(text, keep_blank_values=True, strict_parsing=bool(text)))


def refusal(text: str) -> RequestError:
    """What is said to a link that cannot be."""
    with pytest.raises(RequestError) as caught:
        checked(read(text))
    return caught.value


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", {}),
        ("model=QWEN3-8B", {"model": "qwen3-8b"}),
        ("model=Org/Repo/file.gguf@main", {"model": "Org/Repo/file.gguf@main"}),
        ("model=https://huggingface.co/Org/Repo/blob/main/file.gguf?download=true", {"model": "Org/Repo/file.gguf"}),
        (f"facts={FACTS}", {"facts": FACTS}),
        (f"facts={FACTS}&model=&quant=", {"facts": FACTS}),
        ("quant=q6_k", {"quant": "Q6_K"}),
        ("ctx=32768", {"ctx": 32768}),
        ("ctx=32k", {"ctx": 32768}),
        ("ctx=32K", {"ctx": 32768}),
        ("ctx=1m", {"ctx": 1048576}),
        ("ctx=131,072", {"ctx": 131072}),
        ("ctx=131_072", {"ctx": 131072}),
        ("ctx=+32k+", {"ctx": 32768}),
        ("ctx=auto", {"ctx": 0}),
        ("ctx=Auto", {"ctx": 0}),
        ("ctx=0", {"ctx": 0}),
        ("kv=q8_0", {"kv": ("q8_0", "q8_0")}),
        ("kv=q8_0:q4_0", {"kv": ("q8_0", "q4_0")}),
        ("kv=Q8_0:IQ4_NL", {"kv": ("q8_0", "iq4_nl")}),
        ("fa=off", {"fa": False}),
        ("fa=0", {"fa": False}),
        ("fa=On", {"fa": True}),
        ("fa=1", {"fa": True}),
        ("ub=64", {"ub": 64}),
        ("ub=512", {}),
        ("ub=auto", {}),
        ("engine=vllm&ub=512", {"engine": "vllm", "ub": 512}),
        ("engine=vllm&kv=float16", {"engine": "vllm"}),
        ("engine=vllm&kv=fp8_e4m3", {"engine": "vllm", "kv": ("fp8", "fp8")}),
        ("engine=vllm&weights=AWQ", {"engine": "vllm", "weights": "awq"}),
        (
            "engine=vllm&gpu_memory_utilization=0.85&block_size=16",
            {"engine": "vllm", "options": (("gpu_memory_utilization", 0.85),)},
        ),
        ("engine=vllm&enforce_eager=on", {"engine": "vllm", "options": (("enforce_eager", True),)}),
        ("swa_full=on&n_batch=4,096", {"options": (("swa_full", True), ("n_batch", 4096))}),
        ("np=1", {"np": 1}),
        ("np=auto", {"np": -1}),
        ("ngl=99", {"ngl": 99}),
        ("ngl=ALL", {"ngl": -1}),
        ("ngl=0", {"ngl": 0}),
        ("ncmoe=20", {"ncmoe": 20}),
        ("ncmoe=all", {"ncmoe": -1}),
        ("ncffn=512", {"ncffn": 512}),
        ("kvo=off", {"kvo": False}),
        ("device=RTX-3090", {"device": ("rtx-3090",)}),
        ("device=rtx-3090&device=rtx-4090&device=rtx-3090", {"device": ("rtx-3090", "rtx-4090", "rtx-3090")}),
        ("device=generic", {"device": ("generic",)}),
        ("device=RTX+3090+24+GB&device=2+x+rtx-4090", {"device": ("rtx-3090", "rtx-4090", "rtx-4090")}),
        ("ts=3,1", {"ts": (3, 1)}),
        ("ts=0.60, 0.4", {"ts": (0.6, 0.4)}),
        ("os=Windows", {"os": "windows"}),
        ("desktop=on&ecc=1", {"desktop": True, "ecc": True}),
        ("taken=800", {"taken": (800,)}),
        ("taken=800,0,300,0", {"taken": (800, 0, 300)}),
        ("taken=0", {}),
        ("wired=57344", {"wired": 57344}),
        ("gtt=126976", {"gtt": 126976}),
        ("ram=205", {"ram": 205}),
        ("ram=auto", {}),
        ("engine=Llama-Bench", {"engine": "llama-bench"}),
        ("draft=Qwen3-0.6B", {"draft": "qwen3-0.6b"}),
        ("draft=qwen3-0.6b:q4_k_m", {"draft": "qwen3-0.6b"}),
        ("draft=qwen3-0.6b:", {"draft": "qwen3-0.6b"}),
        ("draft=qwen3-0.6b:q8_0", {"draft": "qwen3-0.6b:Q8_0"}),
        ("mmproj=851250000", {"mmproj": 851_250_000}),
        ("mmproj=851,250,000", {"mmproj": 851_250_000}),
        ("mmproj=851M", {"mmproj": 851 * 2**20}),
        ("mmproj=1.25+GiB", {"mmproj": 5 * 2**28}),
        ("mmproj=0", {}),
        ("model=llama3.1:8b", {"model": "llama-3.1-8b-instruct", "quant": "Q4_K_M"}),
        ("model=Llama3.2:1B", {"model": "llama-3.2-1b-instruct", "quant": "Q8_0"}),
        ("model=llama3.2:1b&quant=q6_k", {"model": "llama-3.2-1b-instruct", "quant": "Q8_0"}),
        ("model=gpt-oss:20b&quant=q6_k", {"model": "gpt-oss:20b"}),
        ("model=qwen2.5:7b-instruct-q3_K_S", {"model": "qwen2.5-7b-instruct", "quant": "Q3_K_S"}),
    ],
)
def test_what_is_read(text: str, state: dict[str, Any]) -> None:
    assert read(text) == replace(Query(), **state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", "+", "%09"])
def test_an_empty_value_is_as_good_as_none(name: str, value: str) -> None:
    assert read(f"{name}={value}") == Query()


def test_empty_values_do_not_count_as_a_repetition() -> None:
    assert read("device=&device=rtx-3090&device=&ctx=&ctx=8k") == Query(device=("rtx-3090",), ctx=8192)


@pytest.mark.parametrize(
    ("text", "code", "field", "value", "allowed"),
    [
        ("foo=1", "unknown-parameter", "foo", "'foo'", NAMES),
        ("Model=qwen3-8b", "unknown-parameter", "Model", "'Model'", NAMES),
        ("ctx=1&ctx=1", "repeated", "ctx", "2 times", "one value"),
        ("kv=f16&kv=f16&kv=f16", "repeated", "kv", "3 times", "one value"),
        ("ctx=abc", "not-a-number", "ctx", "'abc'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=-1", "not-a-number", "ctx", "'-1'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=1e9", "not-a-number", "ctx", "'1e9'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=4.5k", "not-a-number", "ctx", "'4.5k'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=NaN", "not-a-number", "ctx", "'NaN'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=k", "not-a-number", "ctx", "'k'", "a whole number such as 4096 or 4k, or auto"),
        ("ctx=,", "not-a-number", "ctx", "','", "a whole number such as 4096 or 4k, or auto"),
        (f"ctx={2**70}", "not-a-number", "ctx", f"'{2**70}'", "a whole number such as 4096 or 4k, or auto"),
        ("kv=q9_0", "unknown-cache-type", "kv", "'q9_0'", TYPES),
        ("kv=q8_0:", "unknown-cache-type", "kv", "'q8_0:'", TYPES),
        ("kv=f16:f16:f16", "unknown-cache-type", "kv", "'f16:f16:f16'", TYPES),
        ("kv=q4_k", "unknown-cache-type", "kv", "'q4_k'", TYPES),
        ("fa=maybe", "not-a-switch", "fa", "'maybe'", ("on", "off")),
        ("ub=x", "not-a-number", "ub", "'x'", "a whole number such as 4096 or 4k, or auto"),
        ("np=all", "not-a-number", "np", "'all'", "a whole number such as 4096 or 4k, or auto"),
        ("ngl=auto", "not-a-number", "ngl", "'auto'", "a whole number such as 4096 or 4k, or all"),
        ("ncmoe=none", "not-a-number", "ncmoe", "'none'", "a whole number such as 4096 or 4k, or all"),
        ("ncmoe=513", "out-of-range", "ncmoe", "513", "a whole number from 0 to 512, or all"),
        ("ncffn=1k", "out-of-range", "ncffn", "1024", "a whole number from 0 to 512"),
        ("kvo=no", "not-a-switch", "kvo", "'no'", ("on", "off")),
        ("ts=1,x", "bad-tensor-split", "ts", "'1,x'", SHARE),
        ("ts=1e9,1", "bad-tensor-split", "ts", "'1e9,1'", SHARE),
        ("ts=" + ",".join("1" * 17), "bad-tensor-split", "ts", "'1,1", SHARE),
        ("ts=0,0", "bad-tensor-split", "ts", "'0,0': one share must be above 0", SHARE),
        ("os=dos", "unknown-system", "os", "'dos'", SYSTEMS),
        ("ecc=on", "no-ecc", "ecc", "RTX 4090", "a workstation card of NVIDIA"),
        ("taken=-1", "not-a-size", "taken", "'-1'", TAKEN),
        ("taken=" + ",".join("1" * 17), "not-a-size", "taken", "'1,1", TAKEN),
        ("taken=1048577", "out-of-range", "taken", "1048577", "a whole number of MiB from 0 to 1,048,576"),
        ("taken=1,1", "device-count", "taken", "2 devices", "at most 1 numbers"),
        ("ram=10001", "out-of-range", "ram", "10001", "a whole number of GB/s from 1 to 10,000, or auto"),
        ("ram=fast", "not-a-number", "ram", "'fast'", "a whole number such as 4096 or 4k, or auto"),
        ("gtt=1000", "not-an-apu", "gtt", "RTX 4090", "an APU of AMD"),
        (
            "gtt=4194305&device=radeon-780m-32gb",
            "out-of-range",
            "gtt",
            "4194305",
            "a whole number of MiB from 1 to 4,194,304, or 0 for the default",
        ),
        ("wired=1.5", "not-a-number", "wired", "'1.5'", "a whole number such as 4096 or 4k"),
        ("quant=q9", "unknown-quantization", "quant", "'q9'", FILE_TYPES),
        ("draft=qwen3-0.6b:q9", "unknown-quantization", "draft", "'qwen3-0.6b:q9'", FILE_TYPES),
        ("mmproj=1.5", "not-a-size", "mmproj", "'1.5'", SIZE),
        ("mmproj=-1M", "not-a-size", "mmproj", "'-1M'", SIZE),
        ("mmproj=big", "not-a-size", "mmproj", "'big'", SIZE),
        ("mmproj=1025G", "out-of-range", "mmproj", "1,100,585,369,600", "at most 1,099,511,627,776 bytes"),
        ("engine=tgi", "unknown-engine", "engine", "'tgi'", tuple(known.id for known in ENGINES)),
        ("engine=vllm&kv=q8_0", "unknown-cache-type", "kv", "nearest is fp8", VLLM_TYPES),
        ("engine=vllm&ngl=20", "not-with-engine", "ngl", "vLLM", "another engine"),
        ("engine=vllm&fa=off", "not-with-engine", "fa", "vLLM", "another engine"),
        ("engine=vllm&weights=q4", "unknown-weight-format", "weights", "'q4'", VLLM_FORMATS),
        ("weights=awq", "unknown-weight-format", "weights", "'awq'", None),
        ("engine=vllm&enforce_eager=perhaps", "not-a-switch", "enforce_eager", "'perhaps'", ("on", "off")),
        ("engine=vllm&block_size=17", "out-of-range", "block_size", "'17'", ("16", "32", "64", "128")),
        (
            "engine=vllm&gpu_memory_utilization=2",
            "out-of-range",
            "gpu_memory_utilization",
            "2",
            "a number from 0.05 to 1",
        ),
        ("gpu_memory_utilization=0.9", "unknown-parameter", "gpu_memory_utilization", "llama-server", NAMES),
    ],
)
def test_what_cannot_be_read(text: str, code: str, field: str, value: str, allowed: str | tuple[str, ...]) -> None:
    error = refusal(text)
    assert (error.code, error.field, error.allowed) == (code, field, allowed)
    assert value in error.message


@pytest.mark.parametrize(
    ("text", "code", "field", "value", "allowed"),
    [
        ("ctx=4096m", "out-of-range", "ctx", str(2**32), "a whole number from 0 to 2,147,483,392"),
        ("ub=0", "out-of-range", "ub", "0", "a whole number from 1 to 1,048,576"),
        ("ub=1048577", "out-of-range", "ub", "1048577", "a whole number from 1 to 1,048,576"),
        ("np=0", "out-of-range", "np", "0", "a whole number from 1 to 256"),
        ("np=257", "out-of-range", "np", "257", "a whole number from 1 to 256"),
        ("ngl=10001", "out-of-range", "ngl", "10001", "a whole number from -1 to 10,000"),
        ("wired=100", "not-metal", "wired", "RTX 4090", "a Metal device"),
        ("wired=4194305&device=m1-16gb", "out-of-range", "wired", "4194305", "from 1 to 4,194,304"),
    ],
)
def test_what_the_core_refuses_has_the_querys_name(text: str, code: str, field: str, value: str, allowed: str) -> None:
    error = refusal(text)
    assert (error.code, error.field) == (code, field)
    assert value in error.message
    assert isinstance(error.allowed, str)
    assert allowed in error.allowed


@pytest.mark.parametrize(
    ("text", "field", "near"),
    [
        ("device=RTX+3060", "device", "rtx-3060-12-gb"),
        ("device=2+x+GeForce+RTX+3060", "device", "rtx-3060-12-gb"),
        ("device=rtx-4090&device=m1-8", "device", "m1-8gb"),
        ("model=llama-3.1-8b", "model", "llama-3.1-8b-instruct"),
        ("model=Gemma+3+12B", "model", "gemma-3-12b-it"),
    ],
)
def test_an_unknown_name_suggests_near_ones(text: str, field: str, near: str) -> None:
    error = refusal(text)
    assert (error.code, error.field) == (f"unknown-{field}", field)
    assert error.allowed is not None
    assert near in error.allowed
    assert near in error.message


@pytest.mark.parametrize("field", ["device", "model"])
def test_an_unknown_name_that_is_near_nothing(field: str) -> None:
    error = refusal(f"{field}=%E6%BC%A2%E5%AD%97")
    assert (error.code, error.field, error.allowed) == (f"unknown-{field}", field, None)
    assert "漢字" in error.message


def test_every_setting_of_the_core_has_a_name_in_the_query() -> None:
    known = {field.name for field in fields(Settings)} | {field.name for field in fields(Run)} | set(OWN_FIELDS)
    assert set(FIELD_OF) <= known
    assert set(FIELD_OF.values()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("over", [1, 2**20])
def test_a_long_value_is_refused_without_repeating_it(name: str, over: int) -> None:
    length = (MAX_FACTS if name == "facts" else MAX_TEXT) + over
    with pytest.raises(RequestError) as caught:
        parse({name: ["9" * length]})
    assert (caught.value.code, caught.value.field) == ("too-long", name)
    assert f"{length:,}" in caught.value.message
    assert len(caught.value.message) < MAX_TEXT


@pytest.mark.parametrize("name", NAMES)
def test_the_longest_value_is_read(name: str) -> None:
    given = {name: ["x" * MAX_TEXT]}
    if name in ("model", "draft"):
        assert getattr(parse(given), name) == "x" * MAX_TEXT
        return
    with pytest.raises(RequestError) as caught:
        parse(given)
    assert (caught.value.field, caught.value.code == "too-long") == (name, False)
    assert len(caught.value.message) < 2 * MAX_TEXT


def test_a_link_to_the_hub_may_be_longer() -> None:
    name = "o/r/" + "x" * (MAX_NAME - len("o/r/.gguf")) + ".gguf"
    assert parse({"model": [name]}).model == name
    with pytest.raises(RequestError) as caught:
        parse({"model": [name + "f"]})
    assert (caught.value.code, caught.value.field) == ("too-long", "model")
    assert len(caught.value.message) < MAX_TEXT


def test_a_long_name_is_refused_without_repeating_it() -> None:
    with pytest.raises(RequestError) as caught:
        parse({"x" * 2**20: ["1"]})
    assert caught.value.code == "unknown-parameter"
    assert len(caught.value.message) < MAX_TEXT


@pytest.mark.parametrize("name", ["model", "quant"])
def test_facts_stand_for_the_whole_model(name: str) -> None:
    value = str(getattr(Query(), name))
    error = refusal(f"facts={FACTS}&{name}={value}")
    assert (error.code, error.field) == ("excluded", name)
    assert "facts" in error.message
    assert read(f"facts={FACTS}&{name}=").load().model.architecture == "llama"


def test_facts_have_one_form() -> None:
    """Another packer of the same facts gives another text, but not another link."""
    plain = zlib.decompress(base64.urlsafe_b64decode(FACTS[1:] + "=="), -15)
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    other = "1" + base64.urlsafe_b64encode(compressor.compress(plain) + compressor.flush()).decode().rstrip("=")
    assert other != FACTS
    assert read(f"facts={other}") == Query(facts=FACTS)
    assert read(f"facts={other}").canonical() == f"facts={FACTS}"


def test_the_number_of_devices() -> None:
    assert len(parse({"device": ["rtx-3090"] * MAX_DEVICES}).device) == MAX_DEVICES
    with pytest.raises(RequestError) as caught:
        parse({"device": ["rtx-3090"] * (MAX_DEVICES + 1)})
    assert (caught.value.code, caught.value.field) == ("device-count", "device")
    assert f"{MAX_DEVICES + 1} times" in caught.value.message


def test_the_defaults_have_an_empty_query() -> None:
    assert Query().canonical() == ""
    assert read("ctx=auto&kv=F16:f16&fa=1&ub=512&np=auto&ngl=all&device=RTX-4090&wired=0").canonical() == ""


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ctx=32k", "ctx=32768"),
        ("kv=Q8_0:q8_0", "kv=q8_0"),
        ("kv=q8_0:f16", "kv=q8_0:f16"),
        ("fa=0", "fa=off"),
        ("quant=q8_0", "quant=Q8_0"),
        ("device=rtx-4090&device=rtx-4090", "device=rtx-4090&device=rtx-4090"),
        (
            "engine=llama-cli&device=m1-16gb&kv=q8_0&model=qwen3-8b",
            "model=qwen3-8b&kv=q8_0&device=m1-16gb&engine=llama-cli",
        ),
        ("model=a+b%26c", "model=a+b%26c"),
        ("model=org%2Frepo%40main", "model=org/repo@main"),
    ],
)
def test_canonical(text: str, canonical: str) -> None:
    assert read(text).canonical() == canonical


@settings(deadline=None, max_examples=150)
@given(queries)
def test_a_link_leads_back_to_its_state(query: Query) -> None:
    assert read(query.canonical()) == query


@settings(deadline=None, max_examples=80)
@given(queries, st.randoms(use_true_random=False))
def test_the_canonical_order_does_not_follow_the_order_given(query: Query, random: Any) -> None:
    items = list(parse_qs(query.canonical()).items())
    random.shuffle(items)
    assert parse(dict(items)).canonical() == query.canonical()


@settings(deadline=None, max_examples=80)
@given(queries, queries, st.sampled_from([field.name for field in fields(Query)]))
def test_states_that_differ_in_one_field_have_links_of_their_own(one: Query, other: Query, name: str) -> None:
    changed = replace(one, **{name: getattr(other, name)})
    assume(changed != one)
    assume(not (changed.facts and (changed.model, changed.quant) != (Query().model, Query().quant)))
    assert changed.canonical() != one.canonical()


def test_the_wired_limit_is_for_the_macs() -> None:
    gib = 2**30
    assert [one.capacity for one in Query(device=("m1-16gb",), wired=12 * 1024).devices()] == [12 * gib]
    mixed = Query(device=("rtx-4090", "m1-16gb"), wired=12 * 1024).devices()
    assert [one.capacity for one in mixed] == [device("rtx-4090").capacity, 12 * gib]
