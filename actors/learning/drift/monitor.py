"""All detectors of a run: each fed with its signal, in row order; what they say, as alarms."""

import json
from collections.abc import Sequence

import numpy as np

from actors.learning.drift.alarm import Alarm
from actors.learning.drift.budget import within_budget
from actors.learning.drift.config import DetectorConfig, DriftConfig
from actors.learning.drift.detector import Detector, make_detector
from actors.learning.drift.input_watch import InputWatch
from actors.learning.drift.ks_input import KsInputConfig
from actors.learning.drift.psi_input import PsiInputConfig
from actors.learning.drift.river_detector import RiverConfig
from actors.learning.drift.signal import Signal
from actors.learning.drift.window_mean import WindowMeanConfig
from actors.learning.part import Tree


class DriftMonitor:
    """`columns[d]` names encoded feature d. The budget of false alarms is shared evenly by all detectors.

    Each call takes rows in their order, and returns alarms in the order of their rows.
    """

    def __init__(self, config: DriftConfig, columns: Sequence[str] = ()) -> None:
        self._config, self._columns = config, columns
        self._rows_between = float(config.false_alarm_rows * max(1, len(config.detectors)))
        self._configs = [within_budget(each, self._rows_between) for each in config.detectors]
        self._detectors = [self._make(each, None) for each in self._configs]

    @property
    def signals(self) -> frozenset[Signal]:
        """Those that anybody watches."""
        return frozenset(config.signal for config in self._configs)

    @property
    def broken(self) -> frozenset[int]:
        """The detectors that suspect the feed, by place in the list."""
        return frozenset(at for at, each in enumerate(self._detectors) if isinstance(each, InputWatch) and each.is_broken)

    def take_inputs(self, row_N: np.ndarray, x_ND: np.ndarray) -> list[Alarm]:
        return self._watched(Signal.INPUTS, row_N, x_ND)

    def take_predictions(self, row_N: np.ndarray, doubt_N: np.ndarray, output_NK: np.ndarray) -> list[Alarm]:
        """`doubt_N` as of `signals.doubts`; `output_NK` each class's probability, or the estimate alone."""
        alarms = self._fed(Signal.PREDICTIONS, row_N, doubt_N)
        return sorted(alarms + self._watched(Signal.PREDICTIONS, row_N, output_NK), key=lambda alarm: alarm.row)

    def take_scores(self, row_N: np.ndarray, error_N: np.ndarray, loss_N: np.ndarray) -> list[Alarm]:
        alarms = self._fed(Signal.ERROR, row_N, error_N) + self._fed(Signal.SCORE, row_N, 1.0 - error_N)
        return sorted(alarms + self._fed(Signal.LOSS, row_N, loss_N), key=lambda alarm: alarm.row)

    def _fed(self, signal: Signal, row_N: np.ndarray, value_N: np.ndarray) -> list[Alarm]:
        alarms: list[Alarm] = []
        for source, (config, detector) in enumerate(zip(self._configs, self._detectors, strict=True)):
            if config.signal is not signal or isinstance(detector, InputWatch):
                continue
            falls = isinstance(config, WindowMeanConfig) and signal is not Signal.SCORE
            found = detector.update_many(1.0 - value_N if falls else value_N)
            name = config.detector if isinstance(config, RiverConfig) else config.kind
            alarms += [
                Alarm(int(row_N[i]), name, signal, evidence=evidence, source=source)
                for i, evidence in zip(found, detector.evidence, strict=True)
            ]
        return alarms

    def _watched(self, signal: Signal, row_N: np.ndarray, x_ND: np.ndarray) -> list[Alarm]:
        alarms = [
            Alarm(f.row, config.kind, signal, f.phase, evidence=f.evidence, since=f.since, source=source)
            for source, (config, detector) in enumerate(zip(self._configs, self._detectors, strict=True))
            if isinstance(detector, InputWatch) and config.signal is signal
            for f in detector.update_many(row_N, x_ND)
        ]
        return sorted(alarms, key=lambda alarm: alarm.row)

    def _make(self, config: DetectorConfig, state: Tree | None) -> Detector | InputWatch:
        if not isinstance(config, (KsInputConfig, PsiInputConfig)):
            return make_detector(config, state, self._rows_between)
        is_input = config.signal is Signal.INPUTS
        assert config.alpha is not None
        watch = InputWatch(
            config,
            config.alpha,
            columns=self._columns if is_input else (),
            broken_share=self._config.broken_feed.share if is_input else None,
            patience_rows=self._config.broken_feed.patience_rows,
        )
        if state is not None:
            watch.restore(state)
        return watch

    def to_state(self) -> Tree:
        return [
            [self._key(config), detector.to_state()] for config, detector in zip(self._configs, self._detectors, strict=True)
        ]

    def restore(self, state: Tree) -> None:
        """A detector whose settings, or whose share of the budget, have changed since begins anew."""
        known = {key: detector for key, detector in state}
        self._detectors = [self._make(config, known.get(self._key(config))) for config in self._configs]

    def _key(self, config: DetectorConfig) -> str:
        settings = json.dumps(config.model_dump(mode="json"), sort_keys=True)
        return f"{settings} {self._rows_between:g} {self._config.broken_feed.share}"
