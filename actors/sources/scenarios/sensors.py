"""A machine's load, to be told from sensors that age, are replaced, and sometimes fail.

Heat, pressure, flow and vibration follow the load and the weather. Seven sensors measure them, each with a gain and an offset
that wander off as it ages, until it is replaced by another that is not quite the same. Once in every period one sensor sticks
at its last reading and then says nothing for a while. The label is measured by hand and exact.
"""

import numpy as np
import pyarrow as pa

from actors.sources.scenarios.draws import even, normal
from actors.sources.scenarios.scenario import BLOCK_ROWS, Block, period_of, rows_of, words

SENSORS = ("heat_a", "heat_b", "pressure_a", "pressure_b", "flow_a", "flow_b", "vibration")
_MEASURES = np.array([0, 0, 1, 1, 2, 2, 3])
_LEVEL = np.array([70.0, 70, 5.2, 5.2, 31, 31, 0.8])
_SPREAD = np.array([12.0, 12, 1.1, 1.1, 8, 8, 0.3])
_NOISE = np.array([0.15, 0.15, 0.12, 0.12, 0.15, 0.15, 0.3])  # in spreads, like what comes below
_GAIN, _OFFSET = 0.35, 0.9  # what age does to a sensor: at most, in standard deviations
_NEW_GAIN, _NEW_OFFSET = 0.05, 0.1  # how far a new one is off
_MACHINES = ("north", "south", "east", "west")
STICKS, FAILS = 0.02, 0.18  # parts of a period
# What is drawn, for a sensor or a machine.
_LIFE, _AGEING, _FRESH, _PHASE, _OF_MACHINE, _WHEN, _WHICH = range(40, 47)


class SensorsScenario:
    def __init__(self, seed: int, every: int) -> None:
        self._seed, self._every = seed, every

    def block(self, number: int) -> Block:
        rng, row_N = np.random.default_rng([self._seed, number]), rows_of(number)
        machine_N = rng.integers(len(_MACHINES), size=BLOCK_ROWS)
        load_N, weather_N = self._load(row_N, machine_N), self._slow(row_N, 9, 2)
        load_N = load_N + 0.4 * rng.standard_normal(BLOCK_ROWS)
        own_N = normal(self._seed, _OF_MACHINE, machine_N)
        truth_NM = np.stack(
            [
                0.9 * load_N + 0.5 * weather_N + 0.3 * own_N,
                np.tanh(load_N) + 0.3 * own_N,
                0.8 * load_N - 0.3 * load_N * weather_N,
                0.6 * np.square(load_N) - 0.6 + 0.2 * own_N,
            ],
            axis=1,
        )
        reading_NS = self._read(row_N, truth_NM[:, _MEASURES]) + _NOISE * rng.standard_normal((BLOCK_ROWS, len(SENSORS)))
        is_stuck_NS, is_silent_NS = self._failures(row_N)
        reading_NS = np.where(is_stuck_NS, self._read(row_N, np.zeros_like(reading_NS)), reading_NS)
        value_NS = np.round(_LEVEL + _SPREAD * reading_NS, 3)
        outside_N = 12.0 + 8.0 * weather_N + rng.standard_normal(BLOCK_ROWS)
        features = {name: pa.array(value_NS[:, i], mask=is_silent_NS[:, i]) for i, name in enumerate(SENSORS)}
        features |= {"outside": pa.array(np.round(outside_N, 1)), "machine": words(_MACHINES, machine_N)}
        return Block(features, pa.array(100.0 + 25.0 * load_N))

    def failures(self, period: int) -> tuple[str, range, range]:
        """The sensor that fails in a period, the rows where it sticks, and those where it says nothing."""
        start = int(self._every * (period + 0.15 + 0.6 * float(even(self._seed, _WHEN, period))))
        stop = start + int(STICKS * self._every)
        which = int(float(even(self._seed, _WHICH, period)) * len(SENSORS))
        return SENSORS[which], range(start, stop), range(stop, stop + int(FAILS * self._every))

    def _failures(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stuck_NS, silent_NS = np.zeros((2, len(row_N), len(SENSORS)), bool)
        for period in np.unique(period_of(row_N, self._every)[0]).tolist():
            name, sticks, fails = self.failures(period)
            stuck_NS[:, SENSORS.index(name)] |= (row_N >= sticks.start) & (row_N < sticks.stop)
            silent_NS[:, SENSORS.index(name)] |= (row_N >= fails.start) & (row_N < fails.stop)
        return stuck_NS, silent_NS

    def _read(self, row_N: np.ndarray, truth_NS: np.ndarray) -> np.ndarray:
        """What the sensors show of the truth, noise apart: a gain and an offset, by age and by specimen."""
        sensor_S = np.arange(len(SENSORS))
        life_S = self._every * (2.0 + 3.0 * even(self._seed, _LIFE, sensor_S))
        specimen_NS, age_NS = np.divmod(row_N[:, None] / life_S + even(self._seed, _PHASE, sensor_S), 1.0)
        specimen_NS = specimen_NS.astype(np.int64)
        ageing = [2 * even(self._seed, _AGEING, sensor_S, specimen_NS, which) - 1 for which in (0, 1)]
        fresh = [normal(self._seed, _FRESH, sensor_S, specimen_NS, which) for which in (0, 1)]
        gain_NS = 1.0 + _NEW_GAIN * fresh[0] + _GAIN * age_NS * ageing[0]
        return np.asarray(gain_NS * truth_NS + _NEW_OFFSET * fresh[1] + _OFFSET * age_NS * ageing[1])

    def _load(self, row_N: np.ndarray, machine_N: np.ndarray) -> np.ndarray:
        return np.asarray(self._slow(row_N, 3, 5) + 0.3 * np.sin(2 * np.pi * row_N / 997 + 1.5 * machine_N))

    def _slow(self, row_N: np.ndarray, what: int, waves: int) -> np.ndarray:
        """A sum of waves, some hundred to some thousand rows long, of about unit variance."""
        wave_W = np.arange(waves)
        length_W = 400.0 * 8.0 ** even(self._seed, what, wave_W, 0)
        phase_W = even(self._seed, what, wave_W, 1)
        return np.asarray(np.sqrt(2 / waves) * np.sin(2 * np.pi * (row_N[:, None] / length_W + phase_W)).sum(axis=1))
