"""The REST calls of the Open Inference Protocol v2, so that clients written for it need no change."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from actors.sources.row_faults import shown
from serve.api.body import as_text, joined, parse_object, read_body, wrong_type, wrong_value
from serve.api.calls import Call, respond
from serve.api.documentation import INFER, MODEL, MODEL_READY, SERVER, SERVER_LIVE, SERVER_READY
from serve.api.errors import relocated
from serve.api.features import instances_of, metadata_of, outputs_of
from serve.api.json_text import json_text
from serve.api.monitoring import served_now
from serve.api.tensors import HEADER_LENGTH, parameters_of, read_inputs, write_outputs
from serve.config import ServeConfig
from serve.interfaces import Predictor, RequestError


class OpenInference:
    """One model, production, under the system's name."""

    def __init__(self, predictor: Predictor, config: ServeConfig, name: str) -> None:
        self._predictor, self._config, self._name = predictor, config, name

    def calls(self) -> list[Call]:
        model = "/v2/models/{name}"
        return [
            Call("GET", "/v2", self.server, SERVER, ("/v2/",)),
            Call("GET", "/v2/health/live", self.live, SERVER_LIVE),
            Call("GET", "/v2/health/ready", self.ready, SERVER_READY),
            Call("GET", model, self.model, MODEL),
            Call("GET", f"{model}/ready", self.model_ready, MODEL_READY),
            Call("POST", f"{model}/infer", self.infer, INFER),
        ]

    async def server(self, _: Request) -> Response:
        return respond({"name": "perennial", "version": _own_version(), "extensions": ["binary_tensor_data"]})

    async def live(self, _: Request) -> Response:
        return respond({"live": True})

    async def ready(self, _: Request) -> Response:
        await served_now(self._predictor)
        return respond({"ready": True})

    async def model(self, request: Request) -> Response:
        self._check_name(request)
        return respond(metadata_of(self._name, await served_now(self._predictor)))

    async def model_ready(self, request: Request) -> Response:
        self._check_name(request)
        await served_now(self._predictor)
        return respond({"name": self._name, "ready": True})

    async def infer(self, request: Request) -> Response:
        self._check_name(request)
        document, binary = _split(request, await read_body(request, self._config.max_request_bytes))
        sent_id = as_text(document["id"], "id") if document.get("id") else None
        is_binary = _wanted_outputs(document)
        tensors = read_inputs(document, binary)
        served = await served_now(self._predictor)
        available = [output["name"] for output in metadata_of(self._name, served)["outputs"]]
        for name in is_binary:
            if name not in available:
                message = f"there is no output {shown(name)}; there are {', '.join(available)}"
                raise RequestError(422, "unknown_field", message, joined("outputs", name))
        instances = instances_of(tensors, served, self._config.max_instances)
        ids = [sent_id] if sent_id and len(instances) == 1 else [uuid4().hex for _ in instances]
        try:
            replies = await self._predictor.predict(instances, ids)
        except RequestError as error:
            raise relocated(error, "inputs", "inputs") from None
        outputs = outputs_of(replies, served)
        is_default_binary = bool(parameters_of(document, "parameters").get("binary_data_output", False))
        is_binary = is_binary or dict.fromkeys(available, is_default_binary)
        documents, data = write_outputs([output for output in outputs if output.name in is_binary], is_binary)
        answer: dict[str, Any] = {"model_name": self._name, "model_version": str(replies[0].version)}
        answer |= {"id": sent_id} if sent_id else {}
        answer |= {"parameters": {"request_ids": [reply.request_id for reply in replies]}, "outputs": documents}
        return _joined(answer, data) if data else respond(answer)

    def _check_name(self, request: Request) -> None:
        asked = str(request.path_params["name"])
        if asked != self._name:
            raise RequestError(404, "unknown_model", f"there is no model {shown(asked)}; this one is {self._name!r}")


def _split(request: Request, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document, and the tensors' bytes after it."""
    declared = request.headers.get(HEADER_LENGTH)
    if declared is None:
        return parse_object(body), b""
    if not (declared.isascii() and declared.isdecimal() and len(declared) <= 15 and int(declared) <= len(body)):
        message = f"{HEADER_LENGTH} must be a number of bytes of the body, which has {len(body)}, not {declared[:80]!r}"
        raise wrong_value(HEADER_LENGTH, message)
    return parse_object(body[: int(declared)]), body[int(declared) :]


def _wanted_outputs(document: dict[str, Any]) -> dict[str, bool]:
    """The outputs asked for, and whether as bytes; empty where the request leaves that to us."""
    wanted: dict[str, bool] = {}
    outputs = document.get("outputs") or []
    if type(outputs) is not list:
        raise wrong_type("outputs", "a list", outputs)
    is_binary = bool(parameters_of(document, "parameters").get("binary_data_output", False))
    for i, output in enumerate(outputs):
        if type(output) is not dict or type(output.get("name")) is not str:
            raise wrong_type(f"outputs[{i}]", "an object with a name", output)
        parameters = parameters_of(output, f"outputs[{i}].parameters")
        wanted[output["name"]] = bool(parameters.get("binary_data", is_binary))
    return wanted


def _joined(answer: dict[str, Any], data: bytes) -> Response:
    text = json_text(answer).encode()
    return Response(text + data, headers={HEADER_LENGTH: str(len(text))}, media_type="application/octet-stream")


def _own_version() -> str:
    try:
        return version("perennial")
    except PackageNotFoundError:  # run from a working directory that was shipped, not installed
        return "unknown"
