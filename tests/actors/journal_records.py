"""Predictions and feedback for the tests of the journal and of the label joiner."""

import json
from typing import Any

from actors.feedback import FeedbackItem, ServedPrediction

START = 1_700_000_000.0


def served(request_id: str = "a", at: float = START, prediction: Any = "yes", **features: Any) -> ServedPrediction:
    return ServedPrediction(request_id, json.dumps(features or {"x": 1}), prediction, 0.75, 7, at)


def label(request_id: str = "a", value: Any = "yes", at: float = START, **more: Any) -> FeedbackItem:
    return FeedbackItem(received_at=at, request_id=request_id, label=value, **more)


def example(value: Any = "yes", request_id: str | None = None, at: float = START, **features: Any) -> FeedbackItem:
    return FeedbackItem(at, request_id, json.dumps(features or {"x": 1}), value)
