"""What the stream was like before: a frozen slice of every past regime, and how well versions do on it.

A drift alarm ends a regime. Of the rows that were labelled in it a fair sample stays; whoever scores a version on the slices
learns what it has forgotten: how much worse it is there than the best version before it (Chaudhry, Dokania, Ajanthan and Torr,
"Riemannian Walk for Incremental Learning", ECCV 2018, section 3.2). Shapes: N rows, D encoded features.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from actors.learning.part import Tree
from actors.learning.section import Section, setting

_FEWEST_ROWS = 16  # of a slice, however wide its rows
_SHORTEST_ROWS = 500  # of a regime
_LATE_ROWS = 1_000  # an alarm comes later than what it is about; so many rows before it belong to the new regime already

ScoreOf = Callable[[np.ndarray, np.ndarray], float]
"""The score of a version, 0 to 1, on x_ND and y_N."""


class RegimesConfig(Section):
    count: int = setting(
        8, "Past regimes that are remembered; of more, the two neighbours with the fewest rows become one.",
        unit="regimes", ge=1,
    )  # fmt: skip
    rows: int = setting(256, "Rows of a regime that are remembered.", unit="rows", ge=_FEWEST_ROWS)
    bytes: int = setting(64 * 2**20, "Memory for all of them: wide rows are fewer.", unit="bytes", ge=0)
    score_every_rows: int = setting(
        50_000, "After so many learned rows the head is scored on the past regimes.", unit="rows", ge=1
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Of all rows that were added, those with the lowest hashes of their numbers: fair, and the same however they came."""

    hash_N: np.ndarray
    row_N: np.ndarray
    x_ND: np.ndarray
    y_N: np.ndarray

    @classmethod
    def of(cls, row_N: np.ndarray, x_ND: np.ndarray, y_N: np.ndarray) -> "Sample":
        return cls(_hashed(row_N), row_N, x_ND, y_N)

    def __len__(self) -> int:
        return len(self.row_N)

    def merged(self, other: "Sample", rows: int) -> "Sample":
        """At most `rows` of both."""
        hash_N = np.concatenate([self.hash_N, other.hash_N])
        kept_N = np.sort(np.argpartition(hash_N, rows)[:rows]) if len(hash_N) > rows else np.arange(len(hash_N))
        columns = ((self.row_N, other.row_N), (self.x_ND, other.x_ND), (self.y_N, other.y_N))
        return Sample(hash_N[kept_N], *(np.concatenate(pair)[kept_N] for pair in columns))

    def where(self, is_in_N: np.ndarray) -> "Sample":
        return Sample(self.hash_N[is_in_N], self.row_N[is_in_N], self.x_ND[is_in_N], self.y_N[is_in_N])


@dataclass(frozen=True, slots=True, eq=False)
class Regime:
    """`seen` labelled rows from `start` to `stop`, of which `sample` is left; the best score on it so far, and the latest."""

    start: int
    stop: int
    seen: int
    sample: Sample
    best: float | None = None
    best_version: int | None = None
    latest: float | None = None

    def scored(self, version: int, score: float) -> "Regime":
        is_best = self.best is None or score > self.best
        return replace(
            self,
            latest=score,
            best=score if is_best else self.best,
            best_version=version if is_best else self.best_version,
        )

    def joined(self, other: "Regime", rows: int) -> "Regime":
        """With the one after it; what either was best at is taken for both, in proportion."""
        seen = self.seen + other.seen
        bests = [(each.best, each.seen) for each in (self, other) if each.best is not None]
        best = sum(b * s for b, s in bests) / sum(s for _, s in bests) if bests else None
        sample = self.sample.merged(other.sample, rows)
        return Regime(self.start, other.stop, seen, sample, best, other.best_version if best is not None else None)


@dataclass(frozen=True, slots=True)
class RegimeStatus:
    """`forgetting` is how far the version's score lies below the best before it, in the mean of the past regimes, `worst` in
    the one where it lies lowest; None before a version was scored on one. `merged` and `short` count past regimes that became
    one with a neighbour: too many, or too short to be told apart.
    """

    count: int = 0
    rows: int = 0
    merged: int = 0
    short: int = 0
    version: int | None = None
    forgetting: float | None = None
    worst: float | None = None


class RegimeMemory:
    """Bounded in regimes, rows and bytes. Labelled rows come in by `add`, alarms by `close`, versions by `score`."""

    def __init__(self, config: RegimesConfig) -> None:
        self._config = config
        self._past: list[Regime] = []
        self._present: Regime | None = None
        self.merged = self.short = 0
        self._scored: tuple[int, float, float] | None = None

    def add(self, row_N: np.ndarray, x_ND: np.ndarray, y_N: np.ndarray) -> None:
        """Labelled rows, in the order in which they are learned. What is kept is a copy."""
        if not len(row_N):
            return
        now, rows = self._present, self._rows_of(x_ND)
        new = Sample.of(row_N, x_ND, y_N)
        if now is not None and len(now.sample) >= rows:
            new = new.where(new.hash_N < now.sample.hash_N.max())
        else:
            new = new.where(np.ones(len(new), bool))
        start, stop = int(row_N.min()), int(row_N.max()) + 1
        if now is None:
            empty = new.where(np.zeros(len(new), bool))
            now = Regime(start, stop, 0, empty)
        sample = now.sample.merged(new, rows) if len(new) else now.sample
        self._present = replace(
            now, start=min(now.start, start), stop=max(now.stop, stop), seen=now.seen + len(row_N), sample=sample
        )

    def close(self, row: int) -> bool:
        """An alarm at `row` of the stream ends the regime; False where too little of it is known to tell it from the next."""
        now = self._present
        if now is None:
            return False
        boundary = max(now.start, row - min(_LATE_ROWS, (row - now.start) // 2))
        is_old_N = now.sample.row_N < boundary
        old_rows = round(now.seen * is_old_N.mean()) if len(is_old_N) else 0
        if is_old_N.sum() < _FEWEST_ROWS or old_rows < _SHORTEST_ROWS:  # such as the alarm that a drift is over
            self.short += 1
            return False
        self._past.append(replace(now, stop=boundary, seen=old_rows, sample=now.sample.where(is_old_N)))
        self._present = Regime(boundary, now.stop, now.seen - old_rows, now.sample.where(~is_old_N))
        if len(self._past) > self._config.count:
            self._merge()
        return True

    def score(self, version: int, score_of: ScoreOf) -> RegimeStatus:
        """Of `version` on every regime, the present one included: what it is best at counts once the regime is over."""
        losses = []
        for at, regime in enumerate(self._past):
            score = score_of(regime.sample.x_ND, regime.sample.y_N)
            if regime.best is not None:
                losses.append(max(0.0, regime.best - score))
            self._past[at] = regime.scored(version, score)
        if self._present is not None and len(self._present.sample) >= _FEWEST_ROWS:
            sample = self._present.sample
            self._present = self._present.scored(version, score_of(sample.x_ND, sample.y_N))
        self._scored = (version, float(np.mean(losses)), max(losses)) if losses else None
        return self.status()

    def scores(self, score_of: ScoreOf) -> list[tuple[Regime, float]]:
        """Of a version on every regime, the present one last; nothing of it is remembered."""
        held = [*self._past, *([self._present] if self._present is not None and len(self._present.sample) else [])]
        return [(regime, score_of(regime.sample.x_ND, regime.sample.y_N)) for regime in held]

    def status(self) -> RegimeStatus:
        held = [*self._past, *([self._present] if self._present else [])]
        scored = self._scored or (None, None, None)
        return RegimeStatus(len(self._past), sum(len(each.sample) for each in held), self.merged, self.short, *scored)

    def to_json(self) -> dict[str, Any]:
        """The status, and every past regime: where it was, and how versions have done on it."""
        past = [
            {
                "start": each.start,
                "stop": each.stop,
                "rows": each.seen,
                "kept": len(each.sample),
                "best": each.best,
                "best_version": each.best_version,
                "latest": each.latest,
            }
            for each in self._past
        ]
        return {**asdict(self.status()), "past": past}

    def to_state(self) -> Tree:
        return {
            "past": [_state_of(each) for each in self._past],
            "present": _state_of(self._present) if self._present else None,
            "merged": self.merged,
            "short": self.short,
            "scored": list(self._scored) if self._scored else None,
        }

    def restore(self, state: Tree) -> None:
        """Goes on from `state` under this memory's own bounds."""
        self._past = [_regime_of(each) for each in state["past"]]
        self._present = _regime_of(state["present"]) if state["present"] else None
        self.merged, self.short = state["merged"], state["short"]
        scored = state["scored"]
        self._scored = (scored[0], scored[1], scored[2]) if scored else None
        while len(self._past) > self._config.count:
            self._merge()

    def _merge(self) -> None:
        """The two neighbours with the fewest rows: what is long past becomes coarser, nothing is forgotten at one blow."""
        at = min(range(len(self._past) - 1), key=lambda i: self._past[i].seen + self._past[i + 1].seen)
        one, other = self._past[at : at + 2]
        self._past[at : at + 2] = [one.joined(other, max(len(one.sample), len(other.sample)))]
        self.merged += 1

    def _rows_of(self, x_ND: np.ndarray) -> int:
        """So many rows of a regime may be kept."""
        within = self._config.bytes // ((self._config.count + 1) * max(1, x_ND.itemsize * x_ND.shape[1]))
        return max(_FEWEST_ROWS, min(self._config.rows, int(within)))

    def validate(self) -> None:
        """Raises AssertionError where the memory contradicts itself."""
        assert len(self._past) <= self._config.count, len(self._past)
        for regime in [*self._past, *([self._present] if self._present else [])]:
            rows = regime.sample.row_N
            assert len(rows) <= max(_FEWEST_ROWS, self._config.rows) and len(np.unique(rows)) == len(rows)
            assert regime.start <= rows.min(initial=regime.stop) and rows.max(initial=regime.start - 1) < regime.stop
        assert all(one.stop <= other.start for one, other in pairwise(self._past)), "regimes overlap"


def _hashed(row_N: np.ndarray) -> np.ndarray:
    """uint64; SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    z = row_N.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = z ^ (z >> np.uint64(31))
    return found


def _state_of(regime: Regime) -> Tree:
    sample = regime.sample
    return {
        **{name: getattr(regime, name) for name in ("start", "stop", "seen", "best", "best_version", "latest")},
        "row": sample.row_N,
        "x": sample.x_ND,
        "y": sample.y_N,
    }


def _regime_of(state: Tree) -> Regime:
    known = {name: state[name] for name in ("start", "stop", "seen", "best", "best_version", "latest")}
    return Regime(**known, sample=Sample.of(state["row"], state["x"], state["y"]))
