"""From alarms and scores to decisions, as a pure machine: what is done about a drift, and when what waits is learned.

Detectors measure, this decides; the loop, the ingestor, the learners and the replay shards carry it out, as the `Order` says.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.learning.drift.actions import AlertConfig, BoostConfig, FreezeConfig, ShrinkMemoryConfig
from actors.learning.drift.alarm import Alarm
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.input_watch import Phase
from actors.learning.order import Order, SetAside, Shrink
from actors.learning.part import Tree
from actors.learning.update import OnDriftConfig, UpdateConfig, UpdatePolicy

BROKEN_FEED, FROZEN = "broken_feed", "frozen"
_REMEMBERED = 32  # stretches of rows to be set aside: they may be late to have their turn


def is_steered(drift: DriftConfig, update: UpdateConfig) -> bool:
    """Whether anything but learning what comes, as it comes, can ever be decided."""
    acts = any(not isinstance(action, AlertConfig) for action in drift.actions)
    breaks = drift.watches_inputs and drift.broken_feed.share is not None and drift.broken_feed.action == "freeze"
    return acts or breaks or not update.is_continuous


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round brought. `tested_row` and `labelled_row` are one past the last row that was predicted, and labelled."""

    round: int
    tested_row: int
    labelled_row: int
    labelled_rows: int  # in this round
    error_N: np.ndarray  # of rows scored in this round, 0 to 1
    alarms: Sequence[Alarm]
    now: float


@dataclass(frozen=True, slots=True)
class Steered:
    """How it stands. `frozen` is why nothing is learned, None where learning goes on; `updates` were made, by policy."""

    frozen: str | None
    waiting_rows: int
    updates: dict[str, int]
    learning_rate_factor: float


@dataclass(slots=True)
class _Freeze:
    """From row `since` on nothing is learned, before row `until` (None: until the feed is mended)."""

    since: int
    until: int | None
    then: str


class Steering:
    """`take` what a round brought; it decides on each alarm, and says what the next rounds are to do."""

    def __init__(self, drift: DriftConfig, update: UpdateConfig) -> None:
        self._drift, self._update = drift, update
        self._policy = UpdatePolicy(update)
        self._learned_row = 0  # rows before it may be learned, where updates are not continuous
        self._labelled_row = 0
        self._freeze: _Freeze | None = None
        self._broken: dict[int, int] = {}  # first suspicious row, by detector
        self._set_aside: list[SetAside] = []
        self._boost: tuple[int, float, int] | None = None  # from row, factor, rows
        self._shrink: Shrink | None = None
        self._acted_row: int | None = None
        self._orders: list[Order] = []  # the last two: of the round that is handed out next, and the one behind it

    def take(self, seen: Seen) -> tuple[Order, list[Alarm]]:
        """The order for the rounds to come, and the alarms with what was decided on each."""
        self._labelled_row = max(self._labelled_row, seen.labelled_row)
        alarms = [self._decide(alarm, seen) for alarm in seen.alarms]
        self._thaw(seen)
        if self._update.is_continuous:
            self._learned_row = self._labelled_row  # from where on rows would wait were the policy another one
        elif self._labelled_row > self._update.warm_up_rows:
            waiting = 0 if self.frozen else self.waiting_rows
            if self._policy.observe(seen.labelled_rows, seen.error_N, seen.alarms, waiting, seen.now):
                self._learned_row = self._labelled_row
        order = self._order(seen.round)
        self._orders = [*self._orders[-1:], order]
        return order, alarms

    def orders(self) -> tuple[Order, ...]:
        """The last two; before there is any, what goes for the first rounds."""
        return tuple(self._orders) or (self._order(-1),)

    @property
    def frozen(self) -> str | None:
        return BROKEN_FEED if self._broken else FROZEN if self._freeze is not None else None

    @property
    def waiting_rows(self) -> int:
        """Labelled rows that are not to be learned yet, bad ones among them counted."""
        return 0 if self._learn_before is None else max(0, self._labelled_row - self._learn_before)

    def standing(self) -> Steered:
        return Steered(self.frozen, self.waiting_rows, dict(self._policy.fired), self._factor())

    # --- what is done about an alarm

    def _decide(self, alarm: Alarm, seen: Seen) -> Alarm:
        match alarm.phase:
            case Phase.BROKEN if self._drift.broken_feed.action == "freeze":
                self._broken[alarm.source] = alarm.since
                return replace(alarm, action="freeze")
            case Phase.MENDED if alarm.source in self._broken:
                since = self._broken.pop(alarm.source)
                self._put_aside(SetAside(since, alarm.row, BROKEN_FEED))
                return replace(alarm, action="quarantine")
            case Phase.STAYED if alarm.source in self._broken:
                del self._broken[alarm.source]
                return replace(alarm, action="learn")
            case Phase.CHANGED:
                return replace(alarm, action="+".join(self._act(alarm, seen)))
        return alarm

    def _act(self, alarm: Alarm, seen: Seen) -> list[str]:
        done: list[str] = []
        is_cooling = self._acted_row is not None and alarm.row - self._acted_row < self._drift.cool_down_rows
        for action in () if self.frozen or is_cooling else self._drift.actions:
            if isinstance(action, AlertConfig) or alarm.signal not in action.signals:
                continue
            match action:
                case BoostConfig():
                    self._boost = (seen.labelled_row, action.factor, action.rows)
                case ShrinkMemoryConfig():
                    self._shrink = Shrink(alarm.row, action.rows)
                case FreezeConfig():
                    self._freeze = _Freeze(seen.labelled_row, seen.tested_row + action.rows, action.then)
            done.append(action.kind)
        if done:
            self._acted_row = alarm.row
        if any(isinstance(p, OnDriftConfig) and alarm.signal in p.signals for p in self._update.policy):
            done.append("update")
        return done or ["alert"]

    def _thaw(self, seen: Seen) -> None:
        """Ends a freeze whose time is over, and any when more rows wait than may."""
        is_full = self.waiting_rows >= self._update.backlog_rows
        if is_full and self._broken:
            self._put_aside(SetAside(min(self._broken.values()), self._labelled_row, BROKEN_FEED))
            self._broken = {source: self._labelled_row for source in self._broken}
        if (freeze := self._freeze) is not None and freeze.until is not None and (is_full or seen.tested_row >= freeze.until):
            self._freeze = None
            if freeze.then == "quarantine":
                self._put_aside(SetAside(freeze.since, min(seen.tested_row, freeze.until), FROZEN))

    def _put_aside(self, rows: SetAside) -> None:
        if rows.start < rows.stop:
            self._set_aside = [*self._set_aside, rows][-_REMEMBERED:]

    # --- what follows for the next rounds

    @property
    def _learn_before(self) -> int | None:
        rows = list(self._broken.values())
        if self._freeze is not None:
            rows.append(self._freeze.since)
        if not self._update.is_continuous:
            rows.append(max(self._learned_row, self._update.warm_up_rows))
        return min(rows, default=None)

    def _order(self, round_number: int) -> Order:
        return Order(round_number, self._learn_before, tuple(self._set_aside), self._factor(), self._shrink)

    def _factor(self) -> float:
        if self._boost is None:
            return 1.0
        row, factor, rows = self._boost
        left = 1.0 - (self._labelled_row - row) / rows
        if left <= 0:
            return 1.0
        return 1.0 + (factor - 1.0) * left

    # --- what outlives the process

    def to_state(self) -> Tree:
        return {
            "policy": self._policy.to_state(),
            "learned_row": self._learned_row,
            "labelled_row": self._labelled_row,
            "freeze": None if self._freeze is None else [self._freeze.since, self._freeze.until, self._freeze.then],
            "broken": {str(source): since for source, since in self._broken.items()},
            "set_aside": [[each.start, each.stop, each.reason] for each in self._set_aside],
            "boost": self._boost,
            "shrink": None if self._shrink is None else [self._shrink.row, self._shrink.rows],
            "acted_row": self._acted_row,
            "orders": [order.to_state() for order in self._orders],
        }

    def restore(self, state: Tree, broken: Collection[int]) -> None:
        """Goes on from `state`; `broken` are the detectors that suspect the feed now."""
        self._policy.restore(state["policy"])
        self._learned_row, self._labelled_row = state["learned_row"], state["labelled_row"]
        self._freeze = None if state["freeze"] is None else _Freeze(*state["freeze"])
        self._broken = {int(source): since for source, since in state["broken"].items() if int(source) in broken}
        self._set_aside = [SetAside(*each) for each in state["set_aside"]]
        self._boost = None if state["boost"] is None else (state["boost"][0], state["boost"][1], state["boost"][2])
        self._shrink = None if state["shrink"] is None else Shrink(*state["shrink"])
        self._acted_row = state["acted_row"]
        self._orders = [Order.from_state(order) for order in state["orders"]]
