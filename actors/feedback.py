"""What was served, what came back for it, and what became of that: the records of the label joiner."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from actors.errors import PerennialError
from actors.learning.section import Section, setting

Json = str  # a JSON document, as text


class FeedbackConfig(Section):
    keep_predictions: int = setting(
        1_000_000, "Served predictions that wait for their label; the oldest give way, and are counted.", unit="rows", ge=1
    )
    label_ttl_s: float = setting(
        7 * 86_400.0, "How long a prediction waits for its label, and a label for its prediction.", unit="seconds", gt=0
    )
    keep_rows: int = setting(
        1_000_000, "Learned rows that the journal keeps; rows that nobody has learned yet are never dropped.", unit="rows", ge=1
    )
    max_waiting_rows: int = setting(
        1_000_000, "Rows that may wait to be learned; beyond it feedback is refused until they are.", unit="rows", ge=1
    )


@dataclass(frozen=True, slots=True)
class ServedPrediction:
    """A prediction as production served it."""

    request_id: str
    features: Json  # the object that was sent
    prediction: Any  # the class as the user writes it, or a number
    probability: float | None  # of `prediction`; None for regression
    version: int
    served_at: float  # seconds since 1970, UTC

    def __post_init__(self) -> None:
        _check(self, self.prediction, self.probability, self.request_id, self.features)


@dataclass(frozen=True, slots=True)
class ShadowPrediction:
    """What the shadow would have answered to the same request."""

    request_id: str
    prediction: Any
    probability: float | None
    version: int

    def __post_init__(self) -> None:
        _check(self, self.prediction, self.probability, self.request_id)


@dataclass(frozen=True, slots=True)
class FeedbackItem:
    """One piece of feedback: a label or a score for a served request, or a labelled example (`features` and `label`).

    An example may bring a request id of its own choosing, under which a repetition is recognised.
    """

    received_at: float
    request_id: str | None = None
    features: Json | None = None
    label: Any = None
    score: float | None = None

    def __post_init__(self) -> None:
        _check(self, self.label, self.score, self.request_id, self.features)
        if self.label is None and self.score is None:
            raise ValueError("feedback needs a label or a score")
        if self.request_id is None and (self.features is None or self.label is None):
            raise ValueError("feedback needs the request_id that it is for, or features and their label")


class FeedbackOutcome(StrEnum):
    """The label of `perennial_feedback_total`."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same label for the same request again: nothing happens
    UNKNOWN = "unknown"  # no such request is known (yet): the label is kept, and joined should the prediction come
    CONFLICT = "conflict"  # another label for the same request: refused
    EXPIRED = "expired"  # its prediction never came


@dataclass(frozen=True, slots=True)
class JoinerStatus:
    """Where the label joiner stands."""

    outcomes: Mapping[str, int]  # feedback items by outcome, since the journal began
    waiting_predictions: int  # served, their label has not come
    waiting_labels: int  # their prediction has not come
    dropped_predictions: int  # given way to newer ones, or too old, since the journal began
    rows: int  # joined rows since the journal began: the next offset of the stream
    waiting_rows: int  # joined and not learned yet
    dropped_shadow_predictions: int = 0  # their request was not known, or too much was under way, since the journal began


class FeedbackRefusedError(PerennialError):
    """Feedback that was not taken; nothing is wrong with it, and it may be sent again later."""


class OverloadedError(FeedbackRefusedError):
    """More arrives than can be written: again in a moment."""


class TooFarBehindError(FeedbackRefusedError):
    """Too many rows wait to be learned: again when some have been."""


def _check(record: object, value: Any, number: float | None, *texts: str | None) -> None:
    """Raises ValueError for what cannot be written down and read back."""
    name = type(record).__name__
    for text in texts:
        if text is not None:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name} holds text that is not Unicode ({error.reason}): {text[:80]!r}") from error
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{name} holds {number}, which is not a finite number")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} holds a value that cannot be written as JSON: {error}") from error
