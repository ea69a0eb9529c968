"""The description of the API is true: of its parameters, its paths and its answers."""

from __future__ import annotations

from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from app.errors import RequestError
from app.openapi import document
from app.parameters import PARAMETERS
from app.parsing import parse
from app.query import Query, own_options
from app.survey.query import NAMES
from estimator.engines.registry import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask.testing import FlaskClient

HEADER: Final = Path(__file__).parents[1] / "data" / "gguf" / "llama-dense.gguf"
METHODS: Final = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
TYPES: Final[dict[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": float,
    "null": type(None),
}
KEYWORDS: Final = {
    *("type", "description", "properties", "required", "items", "enum", "minimum", "maxLength", "maxItems"),
    *("additionalProperties", "format", "$ref"),
}


@pytest.fixture
def described(client: FlaskClient) -> dict[str, Any]:
    """The document as it is served."""
    reply = client.get("/openapi.json")
    assert (reply.status_code, reply.mimetype) == (200, "application/json")
    answer: dict[str, Any] = reply.get_json()
    return answer


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from inside(part)
    elif isinstance(value, list):
        for part in value:
            yield from inside(part)


def resolved(document: dict[str, Any], reference: str) -> dict[str, Any]:
    """What a reference within the document points at."""
    found: Any = document
    root, *path = reference.split("/")
    assert root == "#"
    for step in path:
        found = found[step]
    assert isinstance(found, dict)
    return found


def conform(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str = "") -> None:
    """Check a value against a schema, of which only what this document uses is understood."""
    assert set(schema) <= KEYWORDS, where
    if "$ref" in schema:
        conform(document, resolved(document, schema["$ref"]), value, where)
        return
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(type(value) is TYPES[kind] for kind in kinds), f"{where} is {type(value)}"
    assert value in schema.get("enum", [value]), where
    if isinstance(value, int):
        assert value >= schema.get("minimum", value), where
    if isinstance(value, list):
        for index, item in enumerate(value):
            conform(document, schema["items"], item, f"{where}/{index}")
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), where
        for name, part in schema.get("properties", {}).items():
            if name in value:
                conform(document, part, value[name], f"{where}/{name}")


def test_the_document_is_what_the_code_makes(described: dict[str, Any]) -> None:
    assert described == document()
    assert described["openapi"].startswith("3.1")
    assert {"title", "version"} <= set(described["info"])


def test_every_reference_resolves_and_every_schema_is_used(described: dict[str, Any]) -> None:
    references = {part["$ref"] for part in inside(described) if "$ref" in part}
    for reference in references:
        assert resolved(described, reference)["type"] == "object"
    assert references == {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}


def test_the_structure(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        assert path.startswith("/")
        assert methods.keys() <= METHODS
        for operation in methods.values():
            assert operation["summary"].endswith(".")
            assert any(status.startswith("2") for status in operation["responses"])
            for status, response in operation["responses"].items():
                assert 200 <= int(status) < 600
                assert response["description"]
            for parameter in operation.get("parameters", ()):
                assert parameter["in"] == "query"
                assert parameter["name"]
                assert parameter["schema"]["type"] in TYPES


def test_every_route_is_described_and_nothing_else(app: Flask, described: dict[str, Any]) -> None:
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/") or rule.rule == "/healthz"
    }
    assert routes == {(path, method) for path, methods in described["paths"].items() for method in methods}


def test_the_parameters_are_the_fields_of_a_query(described: dict[str, Any]) -> None:
    names = [field.name for field in fields(Query) if field.name != "options"]
    assert list(PARAMETERS) == names
    names += dict.fromkeys(option.name for engine in ENGINES for option in own_options(engine))
    operations = described["paths"]["/api/v1/estimate"]
    assert [parameter["name"] for parameter in operations["get"]["parameters"]] == names
    for content in operations["post"]["requestBody"]["content"].values():
        assert list(content["schema"]["properties"]) == names
        assert content["schema"]["additionalProperties"] is False


def test_every_value_that_is_listed_is_read(described: dict[str, Any]) -> None:
    listed = {
        parameter["name"]: parameter["schema"]["enum"]
        for parameter in described["paths"]["/api/v1/estimate"]["get"]["parameters"]
        if "enum" in parameter["schema"]
    }
    assert listed.keys() == {"quant", "fa", "kvo", "os", "desktop", "ecc", "engine"}
    for name, values in listed.items():
        assert len({parse({name: [value]}) for value in values}) == len(values)
        with pytest.raises(RequestError):
            parse({name: ["none of these"]})


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("device=generic&model=llama-3.2-1b-instruct", 200),
        ("model=llama-3.2-1b-instruct&kv=q8_0:q4_0&device=m1-16gb&ctx=1000", 200),
        ("device=rtx-4090&device=rtx-3090&np=3", 200),
        ("ctx=x", 400),
        ("quant=x", 400),
        ("device=%E6%BC%A2", 400),
        ("foo=1", 400),
        ("model=org/repo", 503),
    ],
)
def test_answers_conform_to_their_schema(
    client: FlaskClient, described: dict[str, Any], query: str, status: int
) -> None:
    reply = client.get(f"/api/v1/estimate?{query}")
    assert reply.status_code == status
    response = described["paths"]["/api/v1/estimate"]["get"]["responses"][str(status)]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())


def test_a_plan_conforms_to_its_schema(client: FlaskClient, described: dict[str, Any]) -> None:
    reply = client.get("/api/v1/plan?model=qwen2.5-32b-instruct")
    assert reply.get_json()["changes"]
    response = described["paths"]["/api/v1/plan"]["get"]["responses"]["200"]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("model=llama-3.2-1b-instruct&ctx=4096&kv=q8_0", 200),
        ("model=llama-3.2-1b-instruct&ctx=4096&fa=off&device=m1-16gb", 200),
        ("ctx=x", 400),
    ],
)
def test_the_matrix_conforms_to_its_schema(
    client: FlaskClient, described: dict[str, Any], query: str, status: int
) -> None:
    reply = client.get(f"/api/v1/matrix?{query}")
    assert reply.status_code == status
    response = described["paths"]["/api/v1/matrix"]["get"]["responses"][str(status)]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("compare", "model=gpt-oss-20b&kv=q8_0:q4_0", 200),
        ("compare", "model=mamba-2.8b-hf", 200),
        ("compare", "device=generic&engine=mlx", 200),
        ("compare", "ctx=x", 400),
        ("support", "device=m1-16gb", 200),
        ("support", "ctx=4096", 400),
    ],
)
def test_comparisons_conform_to_their_schema(
    client: FlaskClient, described: dict[str, Any], path: str, query: str, status: int
) -> None:
    reply = client.get(f"/api/v1/{path}?{query}")
    assert reply.status_code == status
    response = described["paths"][f"/api/v1/{path}"]["get"]["responses"][str(status)]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())


@pytest.mark.parametrize(("query", "status"), [("ctx=16k&find=llama&kind=all", 200), ("sort=x", 400)])
def test_surveys_conform_to_their_schema(
    client: FlaskClient, described: dict[str, Any], query: str, status: int
) -> None:
    reply = client.get(f"/api/v1/survey?{query}")
    assert reply.status_code == status
    operation = described["paths"]["/api/v1/survey"]["get"]
    conform(described, operation["responses"][str(status)]["content"]["application/json"]["schema"], reply.get_json())
    assert {parameter["name"] for parameter in operation["parameters"]} == set(NAMES)


def test_a_refused_header_conforms_to_its_schema(client: FlaskClient, described: dict[str, Any]) -> None:
    reply = client.post("/api/v1/gguf", data=b"not a model at all")
    response = described["paths"]["/api/v1/gguf"]["post"]["responses"][str(reply.status_code)]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())


@pytest.mark.parametrize("n_bytes", [0, 100, 100_000])
@pytest.mark.parametrize("is_form", [False, True], ids=["a file", "a form"])
def test_what_a_header_is_answered_conforms_to_its_schema(
    client: FlaskClient, described: dict[str, Any], n_bytes: int, is_form: bool
) -> None:
    data = HEADER.read_bytes()[:n_bytes]
    reply = client.post("/api/v1/gguf", data={"file": (BytesIO(data), "a.gguf")} if is_form else data)
    assert reply.status_code == (200 if n_bytes > 10_000 else 206)
    response = described["paths"]["/api/v1/gguf"]["post"]["responses"][str(reply.status_code)]
    conform(described, response["content"]["application/json"]["schema"], reply.get_json())
    assert set(response.get("headers", {})) <= {name for name, _ in reply.headers}
