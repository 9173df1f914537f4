"""What the system says about itself: state, metrics, health, and the console page."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from serve.api.calls import Call, respond
from serve.api.documentation import CONSOLE, HEALTHZ, METRICS, READYZ, STATUS
from serve.api.exposition import CONTENT_TYPE, exposition
from serve.interfaces import Desk, Predictor, RequestError, Served

_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Monitoring:
    def __init__(self, desk: Desk, predictor: Predictor) -> None:
        self._desk, self._predictor = desk, predictor
        self._page = (files("serve.api") / "console.html").read_text("utf-8")

    def calls(self) -> list[Call]:
        return [
            Call("GET", "/", self.console, CONSOLE),
            Call("GET", "/status", self.status, STATUS),
            Call("GET", "/metrics", self.metrics, METRICS),
            Call("GET", "/healthz", self.healthz, HEALTHZ),
            Call("GET", "/readyz", self.readyz, READYZ),
        ]

    async def console(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers=_SECURITY)

    async def status(self, _: Request) -> Response:
        return respond(await self._desk.status())

    async def metrics(self, _: Request) -> Response:
        return Response(exposition(await self._desk.metrics()), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, _: Request) -> Response:
        return respond({"status": "live"})

    async def readyz(self, _: Request) -> Response:
        return respond({"status": "ready", "version": (await served_now(self._predictor)).version})


async def served_now(predictor: Predictor) -> Served:
    """Raises RequestError 503 while there is no version to answer with."""
    served = await predictor.served()
    if served is None:
        raise RequestError(503, "not_ready", "there is no version to answer with yet; the first comes after the first round")
    return served
