"""Requests to an app: within this process, or over a socket of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from small_system import SmallSystem
from starlette.types import ASGIApp
from waiting import wait_until

from serve.api.gateway_app import build_gateway_app
from serve.config import ServeConfig


def gateway(system: SmallSystem, *tokens: str, **settings: Any) -> ASGIApp:
    return build_gateway_app(system, system, ServeConfig(**settings), tokens, "small")


def ask(app: ASGIApp, method: str, path: str, **request: Any) -> httpx.Response:
    """One request to `app`, without a socket."""

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://small") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def post(app: ASGIApp, path: str, document: Any, **request: Any) -> httpx.Response:
    return ask(app, "POST", path, json=document, **request)


def protocol_refusal(answer: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    """The message of an error under /v2, after a look at its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert (document["code"], document.get("field")) == (code, field)
    assert isinstance(document["error"], str) and "Traceback" not in answer.text
    return document["error"]


def refusal(answer: httpx.Response, status: int, code: str, field: str | None = None) -> str:
    """The message of an error, after a look at its form."""
    if answer.url.path.startswith("/v2"):
        return protocol_refusal(answer, status, code, field)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert list(document) == ["error"]
    error = document["error"]
    assert set(error) == ({"code", "message"} if field is None else {"code", "message", "field"})
    assert (error["code"], error.get("field")) == (code, field)
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    assert "Traceback" not in answer.text
    return str(error["message"])


@contextmanager
def listening(app: ASGIApp, http: str = "auto") -> Iterator[str]:
    """HOST:PORT of a real server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=http, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started, 20, "the server to listen")
        try:
            yield f"127.0.0.1:{free.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
