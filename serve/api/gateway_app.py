"""The gateway: every call but those to production itself, and the document of all of them at /docs.

Receives requests from Ray Serve's proxy; asks the desk, behind which the rest of the system is, and the predictor. Holds the
buckets of the rate limit and the open event streams; if it dies, Serve starts it again, and nobody has lost more than those.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from serve.api.callers import Callers
from serve.api.calls import add_calls
from serve.api.documentation import DESCRIPTION, SECURITY_SCHEMES
from serve.api.events import Events
from serve.api.feedback import Feedback
from serve.api.monitoring import Monitoring
from serve.api.open_inference import OpenInference
from serve.api.predict import Predict
from serve.api.releases import Releases
from serve.api.schemas import ERROR, PROTOCOL_ERROR
from serve.config import ServeConfig
from serve.interfaces import Desk, Predictor


class GatewayApp(FastAPI):
    """Knows the parts of the OpenAPI document that the operations refer to."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"] = {
            "schemas": {"Error": ERROR, "ProtocolError": PROTOCOL_ERROR},
            "securitySchemes": SECURITY_SCHEMES,
        }
        return document


def build_gateway_app(desk: Desk, predictor: Predictor, config: ServeConfig, tokens: Sequence[str], name: str) -> FastAPI:
    """`tokens`: one of them must come with what changes state; none: everybody may. Raises ValueError for an empty one."""
    callers = Callers(tokens)
    app = GatewayApp(title=f"Perennial: {name}", version="1", description=DESCRIPTION, redoc_url=None)
    groups = (
        Predict(predictor, config),
        Feedback(desk, callers, config),
        Releases(desk, callers, config),
        Monitoring(desk, predictor),
        Events(desk, config),
        OpenInference(predictor, config, name),
    )
    add_calls(app, (call for group in groups for call in group.calls()), config.timeout_s)
    return app
