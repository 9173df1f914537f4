"""The OpenAPI document: whole, valid, and true."""

import re
from typing import Any

import pytest
import schemathesis
from fastapi.openapi.models import OpenAPI
from http_calls import ask, gateway
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from small_system import SmallSystem
from starlette.types import ASGIApp

DOCUMENT = ask(gateway(SmallSystem()), "GET", "/openapi.json").json()
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
OPERATION = pytest.mark.parametrize("method, path, operation", OPERATIONS.values(), ids=OPERATIONS)
CONTRACT = {
    "POST /predict",
    "POST /feedback",
    "GET /versions",
    "GET /versions/{id}",
    "GET /aliases",
    "POST /promote",
    "POST /rollback",
    "GET /status",
    "GET /events",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{name}",
    "GET /v2/models/{name}/ready",
    "POST /v2/models/{name}/infer",
}


def resolved(schema: Any) -> Any:
    """`schema` with what it refers to in its place."""
    if isinstance(schema, list):
        return [resolved(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return resolved(DOCUMENT["components"]["schemas"][schema["$ref"].removeprefix("#/components/schemas/")])
    return {key: resolved(value) for key, value in schema.items()}


def contents(operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every body and answer that the operation documents."""
    answers = [(status, answer["content"]) for status, answer in operation["responses"].items()]
    bodies = [("body", operation["requestBody"]["content"])] if "requestBody" in operation else []
    return [(place, content) for place, types in answers + bodies for content in types.values()]


def examples(content: dict[str, Any]) -> list[Any]:
    return [example["value"] for example in content.get("examples", {}).values()] or [content["example"]]


def test_the_document_is_openapi_and_has_every_call_and_no_other():
    OpenAPI.model_validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {f"{method} {path}" for method, path, _ in OPERATIONS.values()} == CONTRACT


def test_docs_shows_the_document():
    answer = ask(gateway(SmallSystem()), "GET", "/docs")
    assert answer.status_code == 200 and "/openapi.json" in answer.text


@OPERATION
def test_every_schema_is_one_and_every_example_fits_it(method, path, operation):
    for place, content in contents(operation):
        schema = resolved(content["schema"])
        Draft202012Validator.check_schema(schema)
        if place == "body" or place.startswith("2"):
            for example in examples(content):
                Draft202012Validator(schema).validate(example)
    for parameter in operation.get("parameters", []):
        Draft202012Validator.check_schema(parameter["schema"])
        if "example" in parameter:
            Draft202012Validator(parameter["schema"]).validate(parameter["example"])
    assert set(re.findall(r"{(\w+)}", path)) == {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}


@OPERATION
def test_every_example_works_and_its_answer_is_as_documented(method, path, operation):
    if path == "/events":
        return  # it never ends; its own tests read it
    address = path.replace("{id}", "2").replace("{name}", "small")
    bodies = examples(operation["requestBody"]["content"]["application/json"]) if "requestBody" in operation else [None]
    for body in bodies:
        system = SmallSystem(previous=0, kept=(0, 1, 2, 42))
        answer = ask(gateway(system), method, address, **({} if body is None else {"json": body}))
        assert answer.is_success, answer.text
        (documented,) = operation["responses"][str(answer.status_code)]["content"].items()
        assert answer.headers["content-type"].partition(";")[0] == documented[0]
        if documented[0] == "application/json":
            Draft202012Validator(resolved(documented[1]["schema"])).validate(answer.json())


@pytest.fixture(scope="module")
def app() -> ASGIApp:
    return gateway(SmallSystem(previous=0), feedback_per_s=1e9)


schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.exclude(path="/events").parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_nothing_that_fits_the_document_or_nearly_does_breaks_the_server(case, app):
    case.call_and_validate(app=app, checks=[not_a_server_error])
