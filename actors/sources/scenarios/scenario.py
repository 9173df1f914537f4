"""What an application's stream is: blocks of rows, each drawn by itself, and a world that changes in between."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import pyarrow as pa

from actors.sources.source import Scored

BLOCK_ROWS = 1024
HAND_OVER = 0.3  # the last part of a period, in which what comes next takes over bit by bit


class ScenarioKind(StrEnum):
    RULE = "rule"
    FRAUD = "fraud"
    RECOMMENDATION = "recommendation"
    CHATBOT = "chatbot"
    SENSORS = "sensors"


@dataclass(frozen=True, slots=True)
class Block:
    """1,024 rows: the features by name, the label, and, where scores come instead of labels, what each answer was worth."""

    features: Mapping[str, pa.Array]
    label: pa.Array
    scored: tuple[Scored | None, ...] | None = None


class Scenario(Protocol):
    """Block i depends on (seed, i) alone. A period is `drift_every_rows` long."""

    def block(self, number: int) -> Block:
        """The rows from number * 1,024."""


def rows_of(number: int) -> np.ndarray:
    """int64 [1,024]: the rows of block `number`."""
    return np.arange(number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS)


def period_of(row_N: np.ndarray, every: int) -> tuple[np.ndarray, np.ndarray]:
    """The period of each row, and how far the next one has taken over, 0 to 1."""
    period_N, since_N = np.divmod(row_N, every)
    return period_N, np.clip((since_N / every - (1.0 - HAND_OVER)) / HAND_OVER, 0.0, 1.0)


def generation_of(row_N: np.ndarray, slot_N: np.ndarray, phase_N: np.ndarray, life_rows_N: np.ndarray) -> np.ndarray:
    """Who is in a slot: a shop, an item, a user. Each stays for `life_rows_N`, and then another takes its place.

    The number names it: slot and generation in one, slots below 10,000.
    """
    generation_N = (row_N + (phase_N * life_rows_N).astype(np.int64)) // life_rows_N.astype(np.int64)
    return np.asarray(generation_N * 10_000 + slot_N)


def words(choices: tuple[str, ...], at_N: np.ndarray) -> pa.Array:
    """A categorical column: `choices[at_N]`."""
    return pa.array(choices).take(pa.array(at_N))


def names(prefix: str, number_N: np.ndarray) -> pa.Array:
    """A categorical column of ids, such as `item-4031`."""
    unique, at_N = np.unique(number_N, return_inverse=True)
    return pa.array([f"{prefix}-{number}" for number in unique.tolist()]).take(pa.array(at_N))
