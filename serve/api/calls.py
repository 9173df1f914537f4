"""How a call of the surface becomes a route: its handler under the deadline, its errors as answers, its documentation."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve.api.errors import Guard, error_response, on_http_exception
from serve.api.json_text import json_text
from serve.interfaces import RequestError

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `operation` is what OpenAPI says of it."""

    method: str
    path: str
    handler: Handler
    operation: dict[str, Any]
    other_paths: tuple[str, ...] = field(default=())  # answered alike, and not documented


class DirectRoute(APIRoute):
    """A documented route whose handler takes the request as it is: nothing is injected, and nothing validated for it."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler: Callable[[Request], Any] = self.endpoint
        return handler


def add_calls(app: FastAPI, calls: Iterable[Call], timeout_s: float) -> None:
    """The calls as routes of `app`, and its errors in our form."""
    app.router.redirect_slashes = False
    app.add_middleware(Guard)
    app.add_exception_handler(HTTPException, on_http_exception)
    for call in calls:
        for path in (call.path, *call.other_paths):
            app.router.add_api_route(
                path,
                _answering(call, timeout_s),
                methods=[call.method],
                name=call.operation["operationId"],
                status_code=int(min(call.operation["responses"])),
                response_class=Response,
                response_model=None,
                openapi_extra=call.operation,
                include_in_schema=path == call.path,
                route_class_override=DirectRoute,
            )


def respond(document: Any, status: int = 200) -> Response:
    return Response(json_text(document), status, media_type="application/json")


def _answering(call: Call, timeout_s: float) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(timeout_s):
                return await call.handler(request)
        except RequestError as error:
            return error_response(request.url.path, error)
        except TimeoutError:
            message = f"the request was not done within {timeout_s:g} s (serve.timeout_s); try again"
            return error_response(request.url.path, RequestError(503, "timeout", message))

    return answer
