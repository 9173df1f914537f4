"""What the HTTP surface asks of the system behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.event_journal import Event
from actors.feedback import FeedbackItem, FeedbackOutcome
from actors.learning.schema import Schema
from actors.learning.task import TaskKind
from actors.release_desk import Moved
from actors.status import MetricFamily

__all__ = ["Desk", "Event", "MetricFamily", "Moved", "Predictor", "Reply", "RequestError", "Served"]


class RequestError(Exception):
    """A request that is refused; `field` is the path of what is wrong in the body, such as `instances[3].features.age`."""

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, code, message, field, retry_after_s)  # all of them, or it could not be pickled
        self.status, self.code, self.message, self.field, self.retry_after_s = status, code, message, field, retry_after_s

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Reply:
    """One prediction. `probabilities` are by class, its name as JSON keys are; None for regression."""

    request_id: str
    prediction: Any
    probabilities: Mapping[str, float] | None
    version: int

    def to_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "prediction": self.prediction,
            "probabilities": self.probabilities,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Served:
    """What production is at the moment."""

    version: int
    schema: Schema
    task: TaskKind
    classes: tuple[Any, ...]


class Predictor(Protocol):
    """Production's answers."""

    async def predict(self, instances: Sequence[Mapping[str, Any]], request_ids: Sequence[str]) -> list[Reply]:
        """One reply for each instance (its features), all from one version.

        Raises RequestError: 422 naming the feature (`field` relative to the instances: `[3].age`), 503 while there is no
        version to answer with or too much is under way.
        """

    async def served(self) -> Served | None:
        """None while there is no version to answer with."""


class Desk(Protocol):
    """The rest of the system, as the gateway sees it. Whatever cannot be reached in time raises RequestError 503."""

    async def feedback(self, items: Sequence[FeedbackItem]) -> list[FeedbackOutcome]:
        """Durable on return. Raises RequestError 422 naming the item's field relative to the items: `[3].label`."""

    async def versions(self, newest: int, below: int | None) -> list[dict[str, Any]]:
        """The newest versions, newest first, of all or of those below a number; the durable ones included."""

    async def version(self, number: int) -> dict[str, Any] | None: ...

    async def aliases(self) -> dict[str, int | None]:
        """`production`, `shadow` and `previous`."""

    async def promote(self, version: int | None, reason: str, by: str) -> Moved:
        """None: the head. Raises RequestError 404 for a version that is not kept."""

    async def rollback(self, version: int | None, reason: str, by: str) -> Moved:
        """To `previous` where no version is named."""

    async def status(self) -> dict[str, Any]: ...

    async def events(self, after: int, timeout_s: float) -> list[Event]:
        """Those with a larger id; waits for some until the timeout."""

    async def metrics(self) -> Sequence[MetricFamily]: ...
