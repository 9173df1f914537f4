"""Honest promotion, as a pure machine: what versions lost on labelled rows in, decisions out.

A shadow is examined beside production until there is evidence that it is better; promoted, it is watched beside the version
that it replaced. Whoever drives the machine moves the aliases and says where they are: `examine` or `watch`.

What is promised, though every label is looked at:
- Of a shadow that is no better than production, the chance to be promoted is at most `alpha`, for as long as it is examined.
  Every other shadow is a new test at the full `alpha`: among n that are no better, n * alpha promotions are to be expected at
  most. Each does little harm: the shadow was hardly worse, or the watch ends it.
- A watched version that is no worse than the one it replaced is rolled back after `false_alarm_labels` in the mean, at least,
  and within `watch_labels` with a chance of at most `watch_labels / false_alarm_labels`. The same alarm rejects a shadow that
  is worse before its time is up.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import log
from typing import Any

from actors.learning.gate.comparison import Cause, Comparison, Phase
from actors.learning.gate.config import GateConfig
from actors.learning.gate.measurements import Measurements
from actors.learning.gate.reasons import balance, holds, reason
from actors.learning.gate.rows import PairedRows
from actors.learning.part import Tree


class Verdict(StrEnum):
    WAITING = "waiting"
    PROMOTE = "promote"  # the shadow becomes production; it is watched from now on
    REJECT = "reject"  # the shadow is not examined again; any other is welcome
    REPIN = "repin"  # time is up: the newest version may become the shadow. Until it does, this pair's evidence goes on
    ROLL_BACK = "roll_back"  # production goes back to the version that it replaced


@dataclass(frozen=True, slots=True)
class Decision:
    """`row` is the index of the row, among those just observed, at which it fell."""

    verdict: Verdict
    cause: Cause
    candidate: int
    incumbent: int
    labels: int
    e_value: float
    row: int
    reason: str


class Gate:
    """Compares at most one pair of versions. Needs the same memory after any number of rows."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self._comparison: Comparison | None = None
        self._refused: int | None = None  # the latest version that was rejected or rolled back
        self._last_order = -1
        self._last: dict[str, str] | None = None
        self.stale_rows = 0  # about versions that are not compared (any more)
        self.repeated_rows = 0

    # --- events

    def examine(self, production: int, shadow: int) -> None:
        """The aliases are these. A pair that is examined or watched already goes on; any other begins without evidence.

        Nothing is examined while the shadow is production itself, or the version that was refused last.
        """
        if self._compares(production, shadow, Phase.WATCHING):
            return
        self._begin(None if shadow in (production, self._refused) else (shadow, production), Phase.EXAMINING)

    def watch(self, production: int, previous: int) -> None:
        """Somebody has moved production by hand: it is watched like a version that the gate has promoted."""
        self._begin(None if production == previous else (production, previous), Phase.WATCHING)

    def measure(self, measured: Measurements) -> None:
        """The newest measurements replace all earlier ones. Those of a version that is not examined change nothing."""
        comparison = self._comparison
        if comparison is not None and comparison.is_of(measured.shadow, comparison.incumbent, Phase.EXAMINING):
            self._comparison = replace(comparison, measured=measured)

    def observe(self, rows: PairedRows) -> list[Decision]:
        """The decisions that these rows bring about, in order; the same however the rows are cut into messages."""
        if rows.order <= self._last_order:
            self.repeated_rows += len(rows)
            return []
        self._last_order = rows.order
        decisions: list[Decision] = []
        start = 0
        while start < len(rows):
            before, rest = self._comparison, rows.part(start, len(rows))
            paired = rest.oriented(before.candidate, before.incumbent) if before else None
            if before is None or paired is None:
                self.stale_rows += len(rest)
                break
            self._comparison, call = before.after(paired)
            if call is None:
                break
            at, cause = call
            there, _ = before.after(paired.part(0, at + 1))
            decisions.append(self._decide(there, cause, start + at))
            start += at + 1
        return decisions

    # --- questions

    def status(self) -> dict[str, Any]:
        """As JSON, for people: the `e_value` so far of the `e_needed`, what is waited for, and the last decision."""
        now = self._comparison
        return {
            "decision": str(Verdict.WAITING) if now or not self._last else self._last["verdict"],
            "phase": str(now.phase) if now else None,
            "candidate": now.candidate if now else None,
            "incumbent": now.incumbent if now else None,
            "labels": now.labels if now else 0,
            "e_value": now.e_value if now else None,
            "e_needed": now.e_needed if now else None,
            "reasons": [balance(now), *holds(now)] if now else ["the shadow is production itself, or was refused"],
            "last": self._last,
            "measured": now.measured.to_json() if now and now.measured else None,
            "rows": {"stale": self.stale_rows, "repeated": self.repeated_rows},
        }

    def validate(self) -> None:
        """Raises AssertionError where the machine contradicts itself."""
        now = self._comparison
        if now is None:
            return
        assert now.candidate != now.incumbent, "a version is compared with itself"
        assert now.phase is Phase.WATCHING or now.candidate != self._refused, "a refused version is examined again"
        assert 0 <= now.waited_labels <= now.labels, (now.waited_labels, now.labels)
        assert now.waited_labels < now.patience_labels, "time is up, and nobody was told"
        assert abs(now.gain_sum) <= now.labels, "gains are from -1 to 1"
        assert now.regret.log_e < log(self._config.false_alarm_labels), "an alarm was not heard"
        assert now.measured is None or now.is_of(now.measured.shadow, now.incumbent, Phase.EXAMINING), "measured another one"

    # --- what outlives the process

    def to_state(self) -> Tree:
        return {
            "comparison": self._comparison and self._comparison.to_state(),
            "refused": self._refused,
            "last_order": self._last_order,
            "last": self._last,
            "stale_rows": self.stale_rows,
            "repeated_rows": self.repeated_rows,
        }

    def restore(self, state: Tree) -> None:
        """Goes on from `state` under this gate's own configuration."""
        self._comparison = state["comparison"] and Comparison.from_state(self._config, state["comparison"])
        self._refused, self._last_order, self._last = state["refused"], state["last_order"], state["last"]
        self.stale_rows, self.repeated_rows = state["stale_rows"], state["repeated_rows"]

    # --- inside

    def _compares(self, candidate: int, incumbent: int, phase: Phase) -> bool:
        return self._comparison is not None and self._comparison.is_of(candidate, incumbent, phase)

    def _begin(self, pair: tuple[int, int] | None, phase: Phase) -> None:
        """`pair` is the candidate and the incumbent; one that is compared already goes on."""
        if pair is None:
            self._comparison = None
        elif not self._compares(*pair, phase):
            self._comparison = Comparison.begun(self._config, *pair, phase)

    def _decide(self, now: Comparison, cause: Cause, row: int) -> Decision:
        """Moves on to what follows from the decision."""
        match cause:
            case Cause.TIME:
                verdict = Verdict.REPIN
                self._comparison = replace(now, waited_labels=0)
            case Cause.EVIDENCE:
                verdict = Verdict.PROMOTE
                self._begin((now.candidate, now.incumbent), Phase.WATCHING)
            case _:
                verdict = Verdict.REJECT if now.phase is Phase.EXAMINING else Verdict.ROLL_BACK
                self._comparison, self._refused = None, now.candidate
        why = reason(now, cause)
        self._last = {"verdict": str(verdict), "cause": str(cause), "reason": why}
        return Decision(verdict, cause, now.candidate, now.incumbent, now.labels, now.e_value, row, why)
