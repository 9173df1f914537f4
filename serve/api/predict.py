"""POST /predict: one prediction or many, from production alone.

The body is parsed by hand: this is the call that answers thousands of times a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from serve.api.body import as_features, as_list, as_text, missing, parse_object, read_body, refuse_unknown
from serve.api.calls import Call, respond
from serve.api.documentation import PREDICT
from serve.api.errors import relocated
from serve.config import ServeConfig
from serve.interfaces import Predictor, RequestError


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be predicted, and under which ids; `is_single` where the body named one as `features`."""

    instances: Sequence[dict[str, Any]]
    request_ids: Sequence[str]
    is_single: bool


class Predict:
    def __init__(self, predictor: Predictor, config: ServeConfig) -> None:
        self._predictor, self._config = predictor, config

    def calls(self) -> list[Call]:
        return [Call("POST", "/predict", self.predict, PREDICT, ("/predict/",))]

    async def predict(self, request: Request) -> Response:
        body = await read_body(request, self._config.max_request_bytes)
        asked = read_asked(parse_object(body), self._config.max_instances)
        try:
            replies = await self._predictor.predict(asked.instances, asked.request_ids)
        except RequestError as error:
            raise relocated(error, "instances", "features" if asked.is_single else None) from None
        if asked.is_single:
            return respond(replies[0].to_json())
        return respond({"predictions": [reply.to_json() for reply in replies]})


def read_asked(document: dict[str, Any], max_instances: int) -> Asked:
    """Raises RequestError 422, naming the field, for a body that is neither one instance nor a list of them."""
    if "instances" in document:
        refuse_unknown(document, ("instances",))  # several have no id of the client's choosing
        listed = as_list(document["instances"], "instances", max_instances)
        instances = [as_features(features, f"instances[{i}]") for i, features in enumerate(listed)]
        return Asked(instances, [uuid4().hex for _ in instances], is_single=False)
    refuse_unknown(document, ("features", "request_id", "instances"))
    if "features" not in document:
        raise missing("features", 'features is missing; send {"features": {...}} or {"instances": [{...}, ...]}')
    features = as_features(document["features"], "features")
    request_id = as_text(document["request_id"], "request_id") if "request_id" in document else uuid4().hex
    return Asked([features], [request_id], is_single=True)
