"""Every error leaves as `{"error": {"code", "message", "field"?}}`, whoever raised it.

Under /v2 as `{"error": message, "code", "field"?}`: the Open Inference Protocol wants a string there, and its clients show it.
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.json_text import json_text
from serve.interfaces import RequestError

RETRY_AFTER_S = 1.0  # where whoever refuses does not say

_log = logging.getLogger(__name__)


def error_response(path: str, error: RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request for `path` that is refused, with the headers that its status asks for."""
    field = {} if error.field is None else {"field": error.field}
    document: dict[str, object] = {"error": {"code": error.code, "message": error.message, **field}}
    if path == "/v2" or path.startswith("/v2/"):
        document = {"error": error.message, "code": error.code, **field}
    headers = dict(headers or {})
    if error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or RETRY_AFTER_S)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json_text(document), error.status, headers, "application/json")


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the router refuses: an address or a method that does not exist."""
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path[:200]}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        refusal = RequestError(error.status_code, "not_found", f"there is no {asked}; /docs lists every call")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        refusal = RequestError(error.status_code, "method_not_allowed", f"there is no {asked}; use {allowed}")
    else:
        refusal = RequestError(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"), error.detail)
    return error_response(request.url.path, refusal, error.headers)


def relocated(error: RequestError, many: str, single: str | None) -> RequestError:
    """`error` with its field, `[3].age`, as a path in the body: `{many}[3].age`, or `{single}.age` where only one was sent."""
    field = error.field
    if field is not None and field.startswith("["):
        if single is None:
            field = many + field
        else:
            field = ".".join(part for part in (single, field.partition("]")[2].removeprefix(".")) if part) or None
    return RequestError(error.status, error.code, error.message, field, error.retry_after_s)


class Guard:
    """Turns what nobody expected into a 500 that tells nothing of our insides; the log has the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            _log.debug("the client of %s %s went away", scope["method"], scope["path"])
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if has_started:
                raise  # the server closes the connection, so that half an answer is not taken for a whole one
            message = "the server failed to answer; its log says why"
            await error_response(scope["path"], RequestError(500, "internal", message))(scope, receive, send)
        return None
