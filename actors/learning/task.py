"""What is learned from a label."""

from enum import StrEnum
from typing import Literal

from actors.learning.section import Section, setting


class TaskKind(StrEnum):
    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    FEEDBACK = "feedback"


class TaskConfig(Section):
    kind: TaskKind = setting(
        TaskKind.CLASSIFICATION,
        "What the label is: a class, a number to be estimated, or (`feedback`) a score of the answer that was given.",
    )
    classes: Literal["auto"] | list[str | int | float | bool] = setting(
        "auto", "The classes; `auto` lets the model grow whenever a label brings a class it has not met."
    )
    max_classes: int = setting(
        1000, "More classes than this, and the label is taken for a number: the run stops and says so.", ge=2
    )
    loss: Literal["squared", "absolute"] = setting("squared", "Regression: the loss on the standardised label.")
    exploration: float = setting(
        0.05,
        "Feedback: share of the requests that get an answer drawn evenly from all, so that scores of each come in.",
        ge=0,
        le=1,
    )
