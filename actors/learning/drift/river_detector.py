"""Any drift detector of River's (https://riverml.xyz), named by its dotted path, behind the interface of our own.

River is not installed with the project (`pip install 'perennial[river]'`), and its detectors cannot be saved without pickle. So
the inputs are kept instead: what it was fed since it was made, and no more than `memory_rows` of that. A full memory makes the
detector anew and feeds it the newer half; so does an alarm, with nothing. Hence it forgets what lies further back, and one
that is restored has been fed exactly what the other was: it goes on as if nothing had happened, if its settings give it a seed
where it draws random numbers.
"""

import importlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from actors.errors import ConfigError
from actors.learning.drift.signal import Signal
from actors.learning.part import Tree
from actors.learning.section import Section, setting


class RiverConfig(Section):
    kind: Literal["river"] = setting("river", "Any drift detector of the package River, which has to be installed.")
    detector: str = setting("river.drift.KSWIN", "Its dotted path.", pattern=r"^river(\.[A-Za-z_][A-Za-z0-9_]*)+$")
    settings: dict[str, Any] = setting({}, "Its arguments, such as {alpha: 0.001, seed: 1}; the false-alarm budget sets none.")
    signal: Literal[Signal.ERROR, Signal.SCORE, Signal.LOSS, Signal.PREDICTIONS] = setting(Signal.ERROR, "What it watches.")
    memory_rows: int = setting(
        10_000, "It forgets what lies further back than this, and half of it at the least.", unit="rows", ge=100
    )


def river_class(config: RiverConfig) -> Callable[..., Any]:
    """Raises ConfigError where River is not installed, or has no such detector."""
    path, _, name = config.detector.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(path), name)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "river"
        reason = "River is not installed: pip install 'perennial[river]'" if missing and error.name == "river" else str(error)
        raise ConfigError(f"drift.detectors: {config.detector!r} cannot be used: {reason}") from error
    return found


class RiverDetector:
    """One call of Python a row: River's cost, and that of feeding half of the memory again each time it is full."""

    def __init__(self, config: RiverConfig) -> None:
        self._config, self._class = config, river_class(config)
        self.evidence: list[dict[str, float]] = []
        self._begin([])

    def _begin(self, values: list[float]) -> None:
        try:
            self._detector = self._class(**self._config.settings)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"drift.detectors: {self._config.detector!r} refuses its settings {self._config.settings!r}: {error}"
            ) from error
        if not (hasattr(self._detector, "update") and hasattr(self._detector, "drift_detected")):
            raise ConfigError(f"drift.detectors: {self._config.detector!r} is no drift detector: it has no drift_detected")
        self._values = list(values)
        for value in values:
            self._detector.update(value)

    def update_many(self, values_N: np.ndarray) -> list[int]:
        alarms: list[int] = []
        self.evidence = []
        values: list[float] = np.asarray(values_N, dtype=np.float64).tolist()
        for i, value in enumerate(values):
            self._detector.update(value)
            self._values.append(value)
            if self._detector.drift_detected:
                alarms.append(i)
                self.evidence.append({"rows": float(len(self._values))})
                self._begin([])
            elif len(self._values) >= self._config.memory_rows:
                self._begin(self._values[-(self._config.memory_rows // 2) :])
        return alarms

    def to_state(self) -> Tree:
        return {"values": np.array(self._values, np.float64)}

    @classmethod
    def from_state(cls, config: RiverConfig, state: Tree) -> "RiverDetector":
        detector = cls(config)
        detector._begin(np.asarray(state["values"]).tolist())
        return detector
