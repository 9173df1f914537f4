"""The app inside every production replica: POST /predict and nothing else.

Receives requests from Ray Serve's proxy, which has routed them by the prefix /predict. Holds nothing; if the replica dies,
Serve sends its requests to another.
"""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.calls import add_calls
from serve.api.predict import Predict
from serve.config import ServeConfig
from serve.interfaces import Predictor

_PATH = "/predict"


class Unprefixed:
    """Finds /predict whether a router in front has taken the prefix for itself (`root_path`) or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            rest = scope["path"].removeprefix(root).rstrip("/")
            is_predict = rest == _PATH or (root != "" and rest == "")
            scope = {**scope, "path": _PATH if is_predict else scope["path"], "root_path": ""}
        await self._app(scope, receive, send)


def build_predict_app(predictor: Predictor, config: ServeConfig) -> FastAPI:
    app = FastAPI(title="Perennial: production", docs_url=None, redoc_url=None, openapi_url=None)
    add_calls(app, Predict(predictor, config).calls(), config.timeout_s)
    app.add_middleware(Unprefixed)
    return app
