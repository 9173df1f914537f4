"""When what has come is learned: at once, or once there is a reason. The `update` section, and the policies as pure values.

Until a policy fires, rows are predicted and scored as ever, and wait. An update learns all that waits.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from actors.learning.drift.alarm import Alarm
from actors.learning.drift.input_watch import Phase
from actors.learning.drift.signal import Signal
from actors.learning.part import Tree
from actors.learning.section import Section, kinds_alone, setting

BACKLOG = "backlog"  # fires when nothing else has and the backlog is full


class ContinuousConfig(Section):
    kind: Literal["continuous"] = setting("continuous", "Every round learns what has become visible by then.")


class OnDriftConfig(Section):
    kind: Literal["on_drift"] = setting("on_drift", "When a drift detector has alarmed.")
    signals: tuple[Signal, ...] = setting(tuple(Signal), "Only alarms of detectors that watch one of these.")


class OnDegradationConfig(Section):
    kind: Literal["on_degradation"] = setting(
        "on_degradation", "When the error of the latest rows exceeds that of the first rows after the last update."
    )
    window_rows: int = setting(500, "The latest rows, and the first.", unit="rows", ge=1, le=100_000)
    drop: float = setting(0.05, "By how much, errors being 0 to 1.", gt=0, lt=1)


class ScheduleConfig(Section):
    kind: Literal["schedule"] = setting("schedule", "When so much time has passed.")
    every_s: float = setting(3_600.0, "Between two of its updates.", unit="seconds", gt=0)


class VolumeConfig(Section):
    kind: Literal["volume"] = setting("volume", "When so many labelled rows wait.")
    rows: int = setting(10_000, "Rows since the last update.", unit="rows", ge=1)


UpdatePolicyConfig = Annotated[
    ContinuousConfig | OnDriftConfig | OnDegradationConfig | ScheduleConfig | VolumeConfig, Field(discriminator="kind")
]


class UpdateConfig(Section):
    policy: tuple[UpdatePolicyConfig, ...] = setting(
        (ContinuousConfig(),),
        "When the model learns what has come; of several, whichever fires first. Each names its `kind`, then its settings.",
        min_length=1,
    )
    warm_up_rows: int = setting(
        2_000, "The first rows of a stream are learned as they come: before that there is no model.", unit="rows", ge=0
    )
    cool_down_rows: int = setting(0, "No update before so many labelled rows have come since the last.", unit="rows", ge=0)
    backlog_rows: int = setting(
        100_000, "More rows than these never wait: an update is made, whatever the policies say.", unit="rows", ge=1_000
    )

    @field_validator("policy", mode="before")
    @classmethod
    def _kind_alone(cls, items: Any) -> Any:
        return kinds_alone(items)

    @property
    def is_continuous(self) -> bool:
        return any(isinstance(policy, ContinuousConfig) for policy in self.policy)


class UpdatePolicy:
    """`observe` what has come since the last time; it tells whether to learn now, and why.

    An update answers what the policies were waiting for, whichever of them fired: rows and alarms count from there on, and the
    error is compared with that of the rows after it. The schedule alone goes by its own time.
    """

    def __init__(self, config: UpdateConfig) -> None:
        self._config = config
        self.fired: Counter[str] = Counter()  # updates by policy
        self._since_update = 0
        self._last_s: list[float | None] = [None] * len(config.policy)
        self._forget()

    def _forget(self) -> None:
        self._rows = 0
        self._has_drifted = [False] * len(self._config.policy)
        self._first = [np.empty(0)] * len(self._config.policy)
        self._latest = [np.empty(0)] * len(self._config.policy)

    def observe(
        self, labelled_rows: int, error_N: np.ndarray, alarms: Sequence[Alarm], waiting_rows: int, now: float
    ) -> tuple[str, ...]:
        """The policies that fire: none where there is no update. `now` in seconds, on any clock."""
        if self._config.is_continuous:
            return ()
        self._rows += labelled_rows
        self._since_update += labelled_rows
        asking: tuple[str, ...] = tuple(
            policy.kind for at, policy in enumerate(self._config.policy) if self._asks(at, policy, error_N, alarms, now)
        )
        if waiting_rows >= self._config.backlog_rows:
            asking = asking or (BACKLOG,)
        elif self._since_update < self._config.cool_down_rows or not waiting_rows:
            return ()
        if not asking:
            return ()
        self.fired.update(asking)
        self._since_update = 0
        for at, policy in enumerate(self._config.policy):
            if isinstance(policy, ScheduleConfig) and policy.kind in asking and self._is_time(at, policy, now):
                self._last_s[at] = now
        self._forget()
        return asking

    def _asks(self, at: int, policy: UpdatePolicyConfig, error_N: np.ndarray, alarms: Sequence[Alarm], now: float) -> bool:
        match policy:
            case VolumeConfig():
                return self._rows >= policy.rows
            case ScheduleConfig():
                return self._is_time(at, policy, now)
            case OnDriftConfig():
                self._has_drifted[at] |= any(a.signal in policy.signals and a.phase in _DRIFTS for a in alarms)
                return self._has_drifted[at]
            case OnDegradationConfig():
                return self._is_worse(at, policy, error_N)
        return False

    def _is_time(self, at: int, policy: ScheduleConfig, now: float) -> bool:
        last = self._last_s[at]
        if last is None or now < last:  # the first time; or a clock that was set back
            self._last_s[at] = last = now
        return now - last >= policy.every_s

    def _is_worse(self, at: int, policy: OnDegradationConfig, error_N: np.ndarray) -> bool:
        size = policy.window_rows
        missing = size - len(self._first[at])
        self._first[at] = np.concatenate([self._first[at], error_N[:missing]])
        self._latest[at] = np.concatenate([self._latest[at], error_N[max(0, missing) :]])[-size:].copy()
        if len(self._latest[at]) < size:
            return False
        return bool(self._latest[at].mean() - self._first[at].mean() > policy.drop)

    def to_state(self) -> Tree:
        return {
            "policies": [policy.model_dump(mode="json") for policy in self._config.policy],
            "fired": dict(self.fired),
            "since_update": self._since_update,
            "rows": self._rows,
            "last_s": self._last_s,
            "has_drifted": self._has_drifted,
            "first": self._first,
            "latest": self._latest,
        }

    def restore(self, state: Tree) -> None:
        """Goes on from `state`; where the policies have changed they begin anew, and the counts stay."""
        self.fired = Counter(state["fired"])
        if state["policies"] != [policy.model_dump(mode="json") for policy in self._config.policy]:
            return
        self._since_update, self._rows = state["since_update"], state["rows"]
        self._last_s, self._has_drifted = list(state["last_s"]), list(state["has_drifted"])
        self._first, self._latest = list(state["first"]), list(state["latest"])


_DRIFTS = (Phase.CHANGED, Phase.STAYED)
