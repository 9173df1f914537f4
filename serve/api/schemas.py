"""JSON schemas of the bodies and answers, for the OpenAPI document."""

from typing import Any

Schema = dict[str, Any]

EXAMPLE_ID = "7d3c1f7c0f0e4d0c9f2b"
EXAMPLE_FEATURES = {"age": 41, "amount": 12.5, "country": "DE"}


def obj(properties: dict[str, Schema], *required: str, is_closed: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "required": list(required)}
    return {**schema, "additionalProperties": False} if is_closed else schema


def listed(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def text(**limits: Any) -> Schema:
    return {"type": "string", **limits}


def flag() -> Schema:
    return {"type": "boolean"}


def number() -> Schema:
    return {"type": "number"}


def count() -> Schema:
    return {"type": "integer", "minimum": 0}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


VERSION_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
REASON = text(minLength=1, maxLength=1_000, pattern=r"\S", description="Kept with the move.")
LABEL: Schema = {"type": ["string", "number", "boolean"]}
PROTOCOL_ERROR = obj({"error": text(), "code": text(), "field": text()}, "error", "code", is_closed=True)
ERROR = obj({"error": obj({"code": text(), "message": text(), "field": text()}, "code", "message", is_closed=True)}, "error")

_PLAIN: Schema = {"type": ["number", "string", "boolean", "null"]}
_FEATURES: Schema = {
    "type": "object",
    "description": "By name, as in the stream; a vector is a list of numbers, null a missing value.",
    "additionalProperties": {"anyOf": [_PLAIN, listed(_PLAIN)]},
}
_REQUEST_ID = text(minLength=1, maxLength=200, description="Printable characters, of your choosing.")
_PREDICTION = obj(
    {
        "request_id": text(),
        "prediction": {},
        "probabilities": or_null({"type": "object", "additionalProperties": number()}),
        "version": VERSION_NUMBER,
    },
    "request_id",
    "prediction",
    "probabilities",
    "version",
)
PREDICT_SCHEMA: Schema = {
    "oneOf": [
        obj({"features": _FEATURES, "request_id": _REQUEST_ID}, "features", is_closed=True),
        obj({"instances": listed(_FEATURES, minItems=1)}, "instances", is_closed=True),
    ]
}
PREDICT_ANSWER: Schema = {"oneOf": [_PREDICTION, obj({"predictions": listed(_PREDICTION)}, "predictions", is_closed=True)]}

_ITEM: Schema = {
    "anyOf": [
        obj({"request_id": _REQUEST_ID, "features": _FEATURES, "label": LABEL}, "request_id", "label", is_closed=True),
        obj({"request_id": _REQUEST_ID, "features": _FEATURES, "label": LABEL}, "features", "label", is_closed=True),
        obj({"request_id": _REQUEST_ID, "score": number()}, "request_id", "score", is_closed=True),
    ]
}
FEEDBACK_SCHEMA: Schema = {"oneOf": [_ITEM, obj({"items": listed(_ITEM, minItems=1)}, "items", is_closed=True)]}
FEEDBACK_COUNTS = obj(
    {"accepted": count(), "duplicate": count(), "unknown": count(), "conflict": count()}, "accepted", "duplicate", "unknown"
)

VERSION_SCHEMA: Schema = {
    "type": "object",
    "description": "The version's record: its number, its parent, what it learned from.",
}
ALIASES_SCHEMA = obj(
    {name: or_null(VERSION_NUMBER) for name in ("production", "shadow", "previous")}, "production", "shadow", "previous"
)
MOVED_SCHEMA = obj(
    {"production": VERSION_NUMBER, "previous": or_null(VERSION_NUMBER), "effective_ms": number()},
    "production",
    "previous",
    "effective_ms",
)
STATUS_SCHEMA = obj(
    {
        "stream": {"type": "object"},
        "rows_per_s": number(),
        "prequential": {"type": "object"},
        "aliases": ALIASES_SCHEMA,
        "evidence": {"type": "object"},
        "drift": {"type": "object"},
        "actors": listed({"type": "object"}),
    }
)

_SHAPE = listed({"type": "integer"}, minItems=1)
_METADATA = obj({"name": text(), "datatype": text(), "shape": _SHAPE}, "name", "datatype", "shape")
_PARAMETERS: Schema = {"type": "object"}
_TENSOR = obj(
    {
        "name": text(),
        "datatype": text(
            enum=["BOOL", *(f"{u}INT{n}" for u in ("", "U") for n in (8, 16, 32, 64)), "FP16", "FP32", "FP64", "BYTES"]
        ),
        "shape": listed(count(), minItems=1, maxItems=8),
        "data": listed({}),
        "parameters": _PARAMETERS,
    },
    "name",
    "datatype",
    "shape",
)
MODEL_SCHEMA = obj(
    {
        "name": text(),
        "versions": listed(text()),
        "platform": text(),
        "inputs": listed(_METADATA),
        "outputs": listed(_METADATA),
    },
    "name",
    "versions",
    "platform",
    "inputs",
    "outputs",
)
TENSOR_REQUEST = obj(
    {
        "id": text(minLength=1, maxLength=200, description="For a single row, its request id, too."),
        "parameters": _PARAMETERS,
        "inputs": listed(_TENSOR, minItems=1),
        "outputs": listed(obj({"name": text(), "parameters": _PARAMETERS}, "name")),
    },
    "inputs",
)
TENSOR_ANSWER = obj(
    {"model_name": text(), "model_version": text(), "id": text(), "parameters": _PARAMETERS, "outputs": listed(_TENSOR)},
    "model_name",
    "model_version",
    "outputs",
)
