"""Versions and the aliases that name them: what there is, and what moves them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serve.api.body import missing, parse_object, read_body, refuse_unknown, wrong_type, wrong_value
from serve.api.callers import Callers
from serve.api.calls import Call, respond
from serve.api.documentation import ALIASES, PROMOTE, ROLLBACK, VERSION, VERSIONS
from serve.config import ServeConfig
from serve.interfaces import Desk, Moved, RequestError

NEWEST_VERSIONS = 100
MAX_NEWEST_VERSIONS = 1_000
HEAD = "head"  # the newest version, whatever its number is by the time that it is asked for

_MAX_REASON = 1_000  # characters
_MAX_DIGITS = 15  # of a version's number


class Releases:
    def __init__(self, desk: Desk, callers: Callers, config: ServeConfig) -> None:
        self._desk, self._callers, self._config = desk, callers, config

    def calls(self) -> list[Call]:
        return [
            Call("GET", "/versions", self.versions, VERSIONS),
            Call("GET", "/versions/{id}", self.version, VERSION),
            Call("GET", "/aliases", self.aliases, ALIASES),
            Call("POST", "/promote", self.promote, PROMOTE),
            Call("POST", "/rollback", self.rollback, ROLLBACK),
        ]

    async def versions(self, request: Request) -> Response:
        asked = request.query_params.get("newest", str(NEWEST_VERSIONS))
        if not (_is_number(asked) and 1 <= int(asked) <= MAX_NEWEST_VERSIONS):
            raise wrong_value("newest", f"newest must be a number from 1 to {MAX_NEWEST_VERSIONS}, not {asked[:80]!r}")
        below = request.query_params.get("below")
        if below is not None and not _is_number(below):
            raise wrong_value("below", f"below must be the number of a version, not {below[:80]!r}")
        return respond({"versions": await self._desk.versions(int(asked), None if below is None else int(below))})

    async def version(self, request: Request) -> Response:
        asked = str(request.path_params["id"])
        found = await self._desk.version(int(asked)) if _is_number(asked) else None
        if found is None:
            message = f"there is no version {asked[:80]!r}; GET /versions lists those that are kept"
            raise RequestError(404, "unknown_version", message)
        return respond(found)

    async def aliases(self, _: Request) -> Response:
        return respond(await self._desk.aliases())

    async def promote(self, request: Request) -> Response:
        by, document = await self._read_move(request)
        if "version" not in document:
            raise missing("version", "version is missing: the number of the version that is to answer from now on")
        asked = document["version"]
        version = None if asked == HEAD else _read_version(asked)
        return _moved(await self._desk.promote(version, _read_reason(document), by))

    async def rollback(self, request: Request) -> Response:
        by, document = await self._read_move(request)
        version = _read_version(document["version"]) if "version" in document else None
        return _moved(await self._desk.rollback(version, _read_reason(document), by))

    async def _read_move(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Who asks for a move, and for which."""
        caller = self._callers.admit(request)
        document = parse_object(await read_body(request, self._config.max_request_bytes))
        refuse_unknown(document, ("version", "reason"))
        return f"http {caller}", document


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _read_version(value: Any) -> int:
    if type(value) is not int:
        raise wrong_type("version", "the number of a version", value)
    if value < 0 or len(str(value)) > _MAX_DIGITS:
        raise RequestError(404, "unknown_version", "there is no version of that number", "version")
    return value


def _read_reason(document: dict[str, Any]) -> str:
    if "reason" not in document:
        raise missing("reason", "reason is missing; it is kept with the move")
    reason = document["reason"]
    if type(reason) is not str:
        raise wrong_type("reason", "a string", reason)
    if not reason.strip() or len(reason) > _MAX_REASON:
        raise wrong_value("reason", f"reason must have 1 to {_MAX_REASON} characters, not {len(reason.strip())}")
    return reason


def _moved(moved: Moved) -> Response:
    return respond({"production": moved.production, "previous": moved.previous, "effective_ms": moved.effective_ms})
