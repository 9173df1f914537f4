"""POST /feedback: labels and scores, one or many, durable when they are acknowledged."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from actors.feedback import FeedbackItem, FeedbackOutcome
from serve.api.body import (
    as_features,
    as_list,
    as_text,
    joined,
    missing,
    parse_object,
    read_body,
    refuse_unknown,
    wrong_type,
    wrong_value,
)
from serve.api.callers import Callers
from serve.api.calls import Call, respond
from serve.api.documentation import FEEDBACK
from serve.api.errors import relocated
from serve.api.json_text import json_text
from serve.api.rate_limit import RateLimit
from serve.config import ServeConfig
from serve.interfaces import Desk, RequestError

_BURST_S = 10.0
_MAX_CLIENTS = 10_000
_ITEM_FIELDS = ("request_id", "features", "label", "score")
_ALWAYS_TOLD = (FeedbackOutcome.ACCEPTED, FeedbackOutcome.DUPLICATE, FeedbackOutcome.UNKNOWN)


class Feedback:
    def __init__(self, desk: Desk, callers: Callers, config: ServeConfig) -> None:
        self._desk, self._callers, self._config = desk, callers, config
        self._limit = RateLimit(config.feedback_per_s, config.feedback_per_s * _BURST_S, _MAX_CLIENTS)

    def calls(self) -> list[Call]:
        return [Call("POST", "/feedback", self.feedback, FEEDBACK)]

    async def feedback(self, request: Request) -> Response:
        caller = self._callers.admit(request)
        document = parse_object(await read_body(request, self._config.max_request_bytes))
        items = read_items(document, self._config.max_instances, time.time())
        self._pay(caller, len(items))
        try:
            outcomes = await self._desk.feedback(items)
        except RequestError as error:
            raise relocated(error, "items", None if "items" in document else "") from None
        counts = Counter(outcomes)
        if counts[FeedbackOutcome.CONFLICT] == len(items):
            raise _conflict(len(items), "items" if "items" in document else "label")
        told = {str(o): counts[o] for o in FeedbackOutcome if o in _ALWAYS_TOLD or counts[o]}
        return respond(told, 202)

    def _pay(self, caller: str, items: int) -> None:
        wait_s = self._limit.take(caller, items, time.monotonic())
        if wait_s > 0:
            limit = f"{self._config.feedback_per_s:g} items a second on average (serve.feedback_per_s)"
            message = f"too much feedback from one client: {items} items beyond {limit}; try again in {wait_s:.3g} s"
            raise RequestError(429, "too_fast", message, retry_after_s=wait_s)


def read_items(document: Mapping[str, Any], max_items: int, now: float) -> list[FeedbackItem]:
    """Raises RequestError 422 naming the field, `items[2].label`."""
    if "items" not in document:
        return [_read_item(document, "", now)]
    refuse_unknown(document, ("items",))
    listed = as_list(document["items"], "items", max_items)
    return [_read_item(item, f"items[{i}]", now) for i, item in enumerate(listed)]


def _read_item(item: Any, path: str, now: float) -> FeedbackItem:
    if not isinstance(item, dict):
        raise wrong_type(path, "an object", item)
    refuse_unknown(item, _ITEM_FIELDS if path else (*_ITEM_FIELDS, "items"), path)
    if "label" in item and "score" in item:
        raise wrong_value(joined(path, "score"), "label and score exclude each other; send one of them")
    if "label" not in item and "score" not in item:
        raise missing(joined(path, "label"), "label is missing; send it, or a score")
    request_id = as_text(item["request_id"], joined(path, "request_id")) if "request_id" in item else None
    if "score" in item:
        return FeedbackItem(now, request_id or _absent_id(path), score=_read_score(item, path))
    features = as_features(item["features"], joined(path, "features")) if "features" in item else None
    if request_id is None and features is None:
        raise missing(joined(path, "request_id"), "request_id is missing; a label needs it, or the features it belongs to")
    label = item["label"]
    if not isinstance(label, (str, int, float)):
        raise wrong_type(joined(path, "label"), "a string, a number or a boolean", label)
    return FeedbackItem(now, request_id, None if features is None else json_text(features), label)


def _read_score(item: Mapping[str, Any], path: str) -> float:
    score = item["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise wrong_type(joined(path, "score"), "a number", score)
    if "features" in item:
        message = "features belong to a label; a score is about an answer that was given: send its request_id"
        raise wrong_value(joined(path, "features"), message)
    return float(score)


def _absent_id(path: str) -> str:
    raise missing(joined(path, "request_id"), "request_id is missing; a score is about an answer that was given")


def _conflict(items: int, field: str) -> RequestError:
    what = "this request has" if items == 1 else f"all {items} requests have"
    message = f"{what} another label already, which stands; nothing was changed"
    return RequestError(409, "conflict", message, field)
