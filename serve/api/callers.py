"""Who calls: by token where tokens are set, by address otherwise."""

import hmac
from collections.abc import Sequence

from starlette.requests import Request

from serve.interfaces import RequestError


class Callers:
    """Without tokens everybody may do everything. Raises ValueError for an empty token."""

    def __init__(self, tokens: Sequence[str]) -> None:
        if not all(tokens):
            raise ValueError(
                "one of the tokens is empty; take the comma beside it out of the variable that serve.tokens_env names"
            )
        self._tokens = tuple(token.encode() for token in tokens)

    def admit(self, request: Request) -> str:
        """A name for the caller, which tells callers apart and no secret. Raises RequestError 401."""
        address = request.client.host if request.client else "unknown"
        if not self._tokens:
            return address
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        sent = token.strip().encode("latin-1", "replace")
        same = [hmac.compare_digest(sent, known) for known in self._tokens]  # all of them, so that the time tells nothing
        if scheme.lower() != "bearer" or not any(same):
            seen = "the token is not one of them" if scheme else "none came"
            raise RequestError(401, "unauthorized", f"this call needs a token, Authorization: Bearer TOKEN; {seen}")
        return f"token {same.index(True) + 1}"
