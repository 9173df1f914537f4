"""What the OpenAPI document says of every call, with an example of each body and answer.

Longer than other files because it is the reference manual of the surface; there is nothing in it that runs.
"""

from functools import partial
from typing import Any

from serve.api.schemas import (
    ALIASES_SCHEMA,
    EXAMPLE_FEATURES,
    EXAMPLE_ID,
    FEEDBACK_COUNTS,
    FEEDBACK_SCHEMA,
    MODEL_SCHEMA,
    MOVED_SCHEMA,
    PREDICT_ANSWER,
    PREDICT_SCHEMA,
    REASON,
    STATUS_SCHEMA,
    TENSOR_ANSWER,
    TENSOR_REQUEST,
    VERSION_NUMBER,
    VERSION_SCHEMA,
    flag,
    listed,
    obj,
    text,
)
from serve.api.tensors import HEADER_LENGTH

Operation = dict[str, Any]

DESCRIPTION = (
    "A model that keeps learning after it ships. Predictions come from production alone; what comes back as feedback is "
    'learned, consolidated into versions, and shadowed and promoted. Every error is `{"error": {"code", "message", '
    '"field"?}}`, and `field` is the path of what is wrong in the request.'
)
SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "Asked for where serve.tokens_env names a variable."}
}

_ERRORS = {
    401: "No token came, or one that is not known.",
    404: "It does not exist.",
    409: "Another label is known for the same request; it stands.",
    413: "The body, or the number of its items, is beyond the limit.",
    422: "Something in the request is missing, unknown, or of the wrong type; `field` names it.",
    429: "Too much from one client; Retry-After tells when to go on.",
    500: "The server failed; its log says why.",
    503: "Not ready, overloaded, or not done in time; Retry-After tells when to try again.",
    504: "Production has moved, but not every replica answers with it yet; name the version again to wait for it.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}


def _operation(
    name: str,
    tag: str,
    summary: str,
    answer: dict[str, Any],
    *,
    status: int = 200,
    body: dict[str, Any] | None = None,
    errors: tuple[int, ...] = (),
    parameters: tuple[dict[str, Any], ...] = (),
    needs_token: bool = False,
    description: str = "",
    error: str = "Error",
) -> Operation:
    responses: dict[str, Any] = {str(status): {"description": "Done.", "content": answer}}
    for code in sorted({*errors, 500, 503}):
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
        responses[str(code)] = {"description": _ERRORS[code], "content": content}
        if code in (429, 503):
            responses[str(code)]["headers"] = _RETRY_AFTER
    operation: Operation = {"operationId": name, "tags": [tag], "summary": summary, "responses": responses}
    if description:
        operation["description"] = description
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if parameters:
        operation["parameters"] = list(parameters)
    if needs_token:
        operation["security"] = [{"token": []}, {}]
    return operation


def _json(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema, "examples": shown}}


def _parameter(name: str, where: str, schema: dict[str, Any], description: str, example: Any) -> dict[str, Any]:
    """`example` None: none that would fit every request."""
    parameter = {"name": name, "in": where, "required": where == "path", "schema": schema, "description": description}
    return parameter if example is None else {**parameter, "example": example}


_PREDICTION = {
    "request_id": EXAMPLE_ID,
    "prediction": "fraud",
    "probabilities": {"fraud": 0.93, "genuine": 0.07},
    "version": 42,
}
_MOVED = _json(MOVED_SCHEMA, moved={"production": 42, "previous": 41, "effective_ms": 18.5})
_RECORD = {"version": 42, "parent": 41, "created_at": 1767225600.0, "rows": 21504}
_NAME = _parameter("name", "path", text(), "The system's name, which is the model's.", "perennial")

PREDICT = _operation(
    "predict",
    "predict",
    "Predict one instance, or many",
    _json(PREDICT_ANSWER, one=_PREDICTION, many={"predictions": [_PREDICTION]}),
    body=_json(
        PREDICT_SCHEMA,
        one={"features": EXAMPLE_FEATURES, "request_id": EXAMPLE_ID},
        many={"instances": [EXAMPLE_FEATURES, {"age": 25, "amount": 8.0, "country": "FR"}]},
    ),
    errors=(413, 422),
    description="All replies to one request come from one version, which they name. Without a request_id one is generated; "
    "feedback refers to it.",
)
FEEDBACK = _operation(
    "feedback",
    "feedback",
    "Tell what was right, or how good an answer was",
    _json(FEEDBACK_COUNTS, counted={"accepted": 1, "duplicate": 0, "unknown": 0}),
    status=202,
    body=_json(
        FEEDBACK_SCHEMA,
        label={"request_id": EXAMPLE_ID, "label": "fraud"},
        score={"request_id": EXAMPLE_ID, "score": 0.8},
        example={"features": EXAMPLE_FEATURES, "label": "genuine"},
        many={"items": [{"request_id": EXAMPLE_ID, "label": "fraud"}, {"features": EXAMPLE_FEATURES, "label": "genuine"}]},
    ),
    errors=(401, 409, 413, 422, 429),
    needs_token=True,
    description="202 means durable. The same again is a duplicate and changes nothing. A label for a request that is not "
    "known yet is kept, should its prediction come. `conflict` counts items whose request has another label; where all "
    "have, the answer is 409.",
)
VERSIONS = _operation(
    "versions",
    "versions",
    "Versions, newest first: the latest of this run, and all that are durable",
    _json(obj({"versions": listed(VERSION_SCHEMA)}, "versions"), newest={"versions": [_RECORD]}),
    errors=(422,),
    parameters=(
        _parameter("newest", "query", {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100}, "How many.", 20),
        _parameter("below", "query", VERSION_NUMBER, "Only versions with smaller numbers: where the last answer ended.", 42),
    ),
)
VERSION = _operation(
    "version",
    "versions",
    "One version's lineage, and its manifest where it is durable",
    _json(VERSION_SCHEMA, manifest=_RECORD),
    errors=(404,),
    parameters=(_parameter("id", "path", VERSION_NUMBER, "The version's number.", 42),),
)
ALIASES = _operation(
    "aliases",
    "versions",
    "Which versions answer, shadow, and answered before",
    _json(ALIASES_SCHEMA, aliases={"production": 42, "shadow": 43, "previous": 41}),
)
PROMOTE = _operation(
    "promote",
    "versions",
    "Let a version answer from now on",
    _MOVED,
    body=_json(
        obj({"version": {"anyOf": [VERSION_NUMBER, {"const": "head"}]}, "reason": REASON}, "version", "reason"),
        promote={"version": 42, "reason": "reviewed"},
        head={"version": "head", "reason": "follow the newest again"},
    ),
    errors=(401, 404, 413, 422, 504),
    needs_token=True,
    description="Answers once every production replica answers with it.",
)
ROLLBACK = _operation(
    "rollback",
    "versions",
    "Go back to an earlier version",
    _MOVED,
    body=_json(
        obj({"version": VERSION_NUMBER, "reason": REASON}, "reason"),
        previous={"reason": "complaints about refused payments"},
        named={"version": 42, "reason": "last one before the broken feed"},
    ),
    errors=(401, 404, 413, 422, 504),
    needs_token=True,
    description="To `previous` where no version is named: said twice, it is back. Answers once every production replica does.",
)
STATUS = _operation(
    "status",
    "monitoring",
    "Where everything stands",
    _json(
        STATUS_SCHEMA,
        status={
            "stream": {"offsets": {"0": 21504}, "rows": 21504},
            "rows_per_s": 812.5,
            "prequential": {"metric": "accuracy", "overall": 0.91, "recent": 0.93},
            "aliases": {"production": 42, "shadow": 43, "previous": 41},
            "evidence": {"e_value": 3.4, "labels": 512, "decision": "wait"},
            "drift": {"events": 1, "last_row": 9216, "last_detector": "adwin"},
            "actors": [{"name": "learner-0", "role": "learner", "pid": 4711, "node": "a1b2", "alive": True, "restarts": 0}],
        },
    ),
)
EVENTS = _operation(
    "events",
    "monitoring",
    "What happens, as it happens",
    {
        "text/event-stream": {
            "schema": text(),
            "example": 'id: 7\nevent: promoted\ndata: {"id":7,"time":1767225600.0,"kind":"promoted","data":{"version":42}}\n\n',
        }
    },
    errors=(422,),
    parameters=(
        _parameter(
            "Last-Event-ID",
            "header",
            {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
            "Only events after this one.",
            6,
        ),
    ),
    description="Server-sent events. What is still kept comes first; a comment keeps a silent stream open.",
)
METRICS = _operation(
    "metrics",
    "monitoring",
    "Metrics for Prometheus",
    {"text/plain": {"schema": text(), "example": 'perennial_version{alias="production"} 42.0\n'}},
)
HEALTHZ = _operation(
    "healthz",
    "monitoring",
    "Whether the gateway lives",
    _json(obj({"status": {"const": "live"}}, "status"), live={"status": "live"}),
)
READYZ = _operation(
    "readyz",
    "monitoring",
    "Whether there is a version to answer with",
    _json(
        obj({"status": {"const": "ready"}, "version": VERSION_NUMBER}, "status", "version"),
        ready={"status": "ready", "version": 42},
    ),
)
CONSOLE = _operation("console", "monitoring", "The console", {"text/html": {"schema": text(), "example": "<!doctype html>..."}})
_protocol_operation = partial(_operation, error="ProtocolError")
SERVER = _protocol_operation(
    "v2_server",
    "open inference protocol",
    "The server",
    _json(
        obj({"name": text(), "version": text(), "extensions": listed(text())}, "name", "version", "extensions"),
        server={"name": "perennial", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
    ),
)
SERVER_LIVE = _protocol_operation(
    "v2_live", "open inference protocol", "Whether the server lives", _json(obj({"live": flag()}, "live"), live={"live": True})
)
SERVER_READY = _protocol_operation(
    "v2_ready",
    "open inference protocol",
    "Whether the server can infer",
    _json(obj({"ready": flag()}, "ready"), ready={"ready": True}),
)
MODEL = _protocol_operation(
    "v2_model",
    "open inference protocol",
    "The model's inputs and outputs",
    _json(
        MODEL_SCHEMA,
        model={
            "name": "perennial",
            "versions": ["42"],
            "platform": "perennial",
            "inputs": [{"name": "age", "datatype": "FP64", "shape": [-1]}],
            "outputs": [{"name": "prediction", "datatype": "BYTES", "shape": [-1]}],
        },
    ),
    errors=(404,),
    parameters=(_NAME,),
)
MODEL_READY = _protocol_operation(
    "v2_model_ready",
    "open inference protocol",
    "Whether the model can infer",
    _json(obj({"name": text(), "ready": flag()}, "name", "ready"), ready={"name": "perennial", "ready": True}),
    errors=(404,),
    parameters=(_NAME,),
)
INFER = _protocol_operation(
    "v2_infer",
    "open inference protocol",
    "Predict from tensors",
    _json(
        TENSOR_ANSWER,
        inferred={
            "model_name": "perennial",
            "model_version": "42",
            "parameters": {"request_ids": [EXAMPLE_ID]},
            "outputs": [
                {"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["fraud"]},
                {
                    "name": "probabilities",
                    "datatype": "FP32",
                    "shape": [1, 2],
                    "data": [0.93, 0.07],
                    "parameters": {"classes": ["fraud", "genuine"]},
                },
            ],
        },
    ),
    body=_json(
        TENSOR_REQUEST,
        columns={
            "inputs": [
                {"name": "age", "datatype": "FP32", "shape": [1], "data": [41.0]},
                {"name": "amount", "datatype": "FP32", "shape": [1, 1], "data": [[12.5]]},
                {"name": "country", "datatype": "BYTES", "shape": [1], "data": ["DE"]},
            ]
        },
    ),
    errors=(404, 413, 422),
    parameters=(
        _NAME,
        _parameter(
            HEADER_LENGTH,
            "header",
            {"type": "integer", "minimum": 0},
            "Bytes of the JSON document, where tensors follow it as bytes (the protocol's binary extension).",
            None,
        ),
    ),
    description="One tensor for each feature, [N] or [N, 1], a vector's [N, size]; text and categories are BYTES. Where all "
    "features are numeric, one tensor [N, D] in the order of the model's inputs does as well. NaN or null: missing.",
)
