"""A request's body: read within its limit, parsed strictly, its fields checked with the path of what is wrong."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from actors.sources.row_faults import shown
from serve.interfaces import RequestError

MAX_TEXT = 200  # characters of a request id

_INTEGER_DIGITS = 300  # fits a float64; Python refuses beyond 4,300 by itself
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # the escape of one half of a pair, or of both


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Raises RequestError 413 as soon as the body is known to be too large, which may be before it is read."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit_bytes):
        raise _too_large(declared[:18], limit_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(f"more than {limit_bytes}", limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises RequestError 422 for anything else, NaN, infinity and lone surrogates among it."""
    try:
        text = body.decode()
        document = _DECODER.decode(text)
        if _LONE_SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _invalid(f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    except UnicodeEncodeError:
        raise _invalid("a string holds one half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise _invalid("the body is nested too deep; no call needs more than five levels") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise _invalid(str(error)) from None
    if type(document) is not dict:
        raise RequestError(422, "wrong_type", f"the body must be an object, not {kind_of(document)}")
    return document


def refuse_unknown(fields: Iterable[str], known: tuple[str, ...], path: str = "") -> None:
    for name in fields:
        if name not in known:
            message = f"field {shown(name)} is not known here; known are {', '.join(known)}"
            raise RequestError(422, "unknown_field", message, joined(path, name))


def missing(field: str, message: str) -> RequestError:
    return RequestError(422, "missing_field", message, field)


def wrong_type(field: str, needed: str, value: Any) -> RequestError:
    return RequestError(422, "wrong_type", f"{field} must be {needed}, not {kind_of(value)}", field)


def wrong_value(field: str, message: str) -> RequestError:
    return RequestError(422, "wrong_value", message, field)


def as_text(value: Any, field: str, most: int = MAX_TEXT) -> str:
    """A string of 1 to `most` printable characters."""
    if type(value) is not str:
        raise wrong_type(field, "a string", value)
    if not 1 <= len(value) <= most or not value.isprintable():
        seen = f"{len(value)} characters" if value.isprintable() else "some that cannot be printed"
        raise wrong_value(field, f"{field} must have 1 to {most} printable characters, not {seen}")
    return value


def as_list(value: Any, field: str, most: int) -> list[Any]:
    """A list of 1 to `most` elements; RequestError 413 beyond."""
    if type(value) is not list:
        raise wrong_type(field, "a list", value)
    if not value:
        raise wrong_value(field, f"{field} is empty; send at least one")
    if len(value) > most:
        message = f"{field} has {len(value)} elements, more than serve.max_instances: {most}; send several requests"
        raise RequestError(413, "too_many", message, field)
    return value


def as_features(value: Any, field: str) -> dict[str, Any]:
    """An object of plain values and lists of them; whether they fit the schema, the model's replica knows."""
    if type(value) is not dict:
        raise wrong_type(field, "an object with the features", value)
    for name, feature in value.items():
        if type(feature) is dict:
            raise wrong_type(joined(field, name), "a plain value or a list of numbers", feature)
        if type(feature) is list:
            for i, element in enumerate(feature):
                if type(element) in (dict, list):
                    raise wrong_type(f"{joined(field, name)}[{i}]", "a plain value", element)
    return value


def joined(path: str, name: str) -> str:
    name = name if len(name) <= MAX_TEXT else name[:MAX_TEXT] + "..."
    return f"{path}.{name}" if path else name


def kind_of(value: Any) -> str:
    """What JSON calls the type of `value`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"


def _too_large(seen: str, limit_bytes: int) -> RequestError:
    message = f"the body has {seen} bytes; at most {limit_bytes} are taken (serve.max_request_bytes); send several requests"
    return RequestError(413, "too_large", message)


def _invalid(message: str) -> RequestError:
    return RequestError(422, "invalid_json", message)


def _finite(text: str) -> float:
    value = float(text)
    if math.isfinite(value):
        return value
    raise ValueError(f"the number {shown(text)} is larger than any float64; leave a missing value out as null")


def _integer(text: str) -> int:
    if len(text) <= _INTEGER_DIGITS:
        return int(text)
    raise ValueError(f"a number has {len(text)} digits, more than {_INTEGER_DIGITS}; leave a missing value out as null")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON; write null for a missing value")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_integer, parse_constant=_no_number)
