"""Drift detectors on simulated errors: how soon, how often for nothing, how often not at all, beside River's.

    .venv/bin/python benchmarks/detectors.py [--runs 40] [--seed 1] [--budget 1000000] [--rates]

A 0/1 error of 10 % changes at row 5,000: at once to 15, 20 or 40 %; gradually to 40 %, over 2,000 rows; or it goes up to 40 %
and back every 2,500 rows. An alarm counts as late as the rows since the last change for the worse, and as a miss where none
comes within 5,000 rows (2,500 where it recurs); alarms before the first change are false. `budget` rows are what
`drift.false_alarm_rows` makes of the same detectors; `always` alarms at every row. River's are skipped where River is not
installed (pip install 'perennial[river]').

`--rates` simulates the budget instead: the rows between two false alarms, at several budgets and errors that never change.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.errors import ConfigError
from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.budget import within_budget
from actors.learning.drift.config import ScalarDetectorConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.detector import make_detector
from actors.learning.drift.page_hinkley import PageHinkleyConfig
from actors.learning.drift.river_detector import RiverConfig
from actors.learning.drift.window_mean import WindowMeanConfig

ROWS, CHANGE_ROW, GRADUAL_ROWS, PERIOD_ROWS, QUIET_RATE = 10_000, 5_000, 2_000, 2_500, 0.1
SLOW = {"river KSWIN"}  # milliseconds a row: a tenth of the runs

Alarms = Callable[[np.ndarray], list[int]]  # of errors in row order: the rows of the alarms


def always(error_N: np.ndarray) -> list[int]:
    return list(range(len(error_N)))


def alarms_of(config: ScalarDetectorConfig, budget: float | None) -> Alarms:
    def alarms(error_N: np.ndarray) -> list[int]:
        fitted = config if budget is None else within_budget(config, budget)
        values_N = 1.0 - error_N if isinstance(config, WindowMeanConfig) else error_N
        return make_detector(fitted, rows_between_alarms=budget).update_many(values_N)

    return alarms


def detectors(budget: float) -> Iterator[tuple[str, Alarms]]:
    yield "always", always
    for name, config in (
        ("adwin", AdwinConfig()),
        ("page_hinkley", PageHinkleyConfig(direction="up")),
        ("ddm", DdmConfig()),
        ("window_mean", WindowMeanConfig()),
    ):
        yield name, alarms_of(config, None)
        fitted = WindowMeanConfig(threshold="auto") if isinstance(config, WindowMeanConfig) else config
        yield f"{name}, budget", alarms_of(fitted, budget)
    for path, settings in (
        ("ADWIN", {}),
        ("PageHinkley", {}),
        ("KSWIN", {"seed": 1}),
        ("binary.DDM", {}),
        ("binary.EDDM", {}),
        ("binary.FHDDM", {}),
        ("binary.HDDMA", {}),
        ("binary.HDDMW", {}),
    ):
        config = RiverConfig(detector=f"river.drift.{path}", settings=settings, memory_rows=100_000)
        try:
            make_detector(config)
        except ConfigError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        yield f"river {path.rpartition('.')[2]}", alarms_of(config, None)


def levels() -> dict[str, tuple[np.ndarray, list[int]]]:
    """The error rate of each row by scenario, and the rows at which it begins to rise."""
    row_N = np.arange(ROWS)
    found = {}
    for after in (0.15, 0.2, 0.4):
        found[f"to {after:.0%}"] = np.where(row_N < CHANGE_ROW, QUIET_RATE, after), [CHANGE_ROW]
    ramp_N = np.clip((row_N - CHANGE_ROW) / GRADUAL_ROWS, 0, 1)
    found["gradual"] = QUIET_RATE + 0.3 * ramp_N, [CHANGE_ROW]
    row_N = np.arange(CHANGE_ROW + 6 * PERIOD_ROWS)
    is_up_N = (row_N >= CHANGE_ROW) & ((row_N - CHANGE_ROW) // PERIOD_ROWS % 2 == 0)
    rises = [CHANGE_ROW + k * PERIOD_ROWS for k in (0, 2, 4)]
    found["recurring"] = np.where(is_up_N, 0.4, QUIET_RATE), rises
    return found


def measure(name: str, alarms: Alarms, runs: int, seed: int) -> str:
    false, quiet_rows, rows, spent = 0, 0, 0, 0.0
    cells = []
    for scenario, (level_N, rises) in levels().items():
        delays, misses = [], 0
        horizon = PERIOD_ROWS if len(rises) > 1 else ROWS - CHANGE_ROW
        for run in range(max(1, runs // 10 if name in SLOW else runs)):
            error_N = (np.random.default_rng([seed, run]).random(len(level_N)) < level_N).astype(float)
            started = time.perf_counter()
            found_N = np.array(alarms(error_N))
            spent += time.perf_counter() - started
            rows += len(error_N)
            if scenario == "to 15%":
                false, quiet_rows = false + int((found_N < CHANGE_ROW).sum()), quiet_rows + CHANGE_ROW
            for rise in rises:
                soon_N = found_N[(found_N >= rise) & (found_N < rise + horizon)]
                misses += not len(soon_N)
                delays += [int(soon_N[0]) - rise] if len(soon_N) else []
        cells.append(f"{np.median(delays):.0f} ({misses} missed)" if delays else "never")
    return f"| {name} | {1e4 * false / quiet_rows:.2f} | {' | '.join(cells)} | {1e6 * spent / rows:.1f} |"


def rates(seed: int, rows: int = 300_000, runs: int = 3) -> None:
    print("| detector | budget | error 5 % | 20 % | 50 % |\n|---|---|---|---|---|")
    for config in (AdwinConfig(), PageHinkleyConfig(), DdmConfig(), WindowMeanConfig(threshold="auto")):
        for budget in (10_000, 30_000, 100_000):
            cells = []
            for rate in (0.05, 0.2, 0.5):
                rng = np.random.default_rng([seed, budget])
                found = sum(len(alarms_of(config, budget)((rng.random(rows) < rate).astype(float))) for _ in range(runs))
                cells.append(f"{rows * runs / found:,.0f}" if found else f"> {rows * runs:,}")
            print(f"| {config.kind} | {budget:,} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1e6)
    parser.add_argument("--rates", action="store_true")
    arguments = parser.parse_args()
    if arguments.rates:
        rates(arguments.seed)
        return
    print(f"median rows to the alarm, {arguments.runs} runs; budget: {arguments.budget:,.0f} rows between false alarms\n")
    print(f"| detector | false alarms per 10k rows | {' | '.join(levels())} | us per row |")
    print(f"|---|---|{'---|' * len(levels())}---|")
    for name, alarms in detectors(arguments.budget):
        print(measure(name, alarms, arguments.runs, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
