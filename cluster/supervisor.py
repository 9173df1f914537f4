"""The supervisor: runs the learning loop to its end, and keeps account of it for status, metrics and the report."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from ray import ObjectRef

from actors.errors import LearningError
from actors.evaluator import Observation
from actors.learning.lineage import OffsetRange
from actors.learning.promotion import AfterRollback
from actors.learning.regime_memory import RegimeStatus
from actors.learning.versioning import Outcome, RowCounts
from actors.release_desk import WAITING_GROUP
from actors.sources.journal_source import PARTITION as FEEDBACK
from actors.sources.source import BadRowReason
from actors.status import (
    ActorHealth,
    AliasStatus,
    DriftStatus,
    EvidenceStatus,
    PrequentialStatus,
    RunState,
    Snapshot,
    StreamStatus,
    UpdateStatus,
)
from actors.storage import shown
from actors.version_manager import DeskNews
from cluster.async_loop import AsyncLoop
from cluster.calls import DEATHS, SLICE_S, has_died, is_ready, value_of
from cluster.config import PerennialConfig
from cluster.health import HealthWatch
from cluster.launch import System
from cluster.loop import Landed, LearningLoop
from cluster.metrics import Metrics
from cluster.serving_account import ServingAccount
from cluster.sync_loop import SyncLoop

_CURVE_POINTS = 512
_UNTOLD = 1_000  # events, should the version manager be away for long

logger = logging.getLogger(__name__)


class Curve:
    """At most 512 points of something that goes on for ever: when full, every second one is dropped."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._stride, self._skipped = 1, 0

    def add(self, x: float, y: float) -> None:
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self._points.append((x, y))
        if len(self._points) >= _CURVE_POINTS:
            self._points, self._stride = self._points[1::2], self._stride * 2

    def named(self, x: str, y: str) -> list[dict[str, float]]:
        return [{x: a, y: b} for a, b in self._points]


@dataclass(slots=True)
class _ShardTotals:
    rows: int = 0
    replayed: int = 0
    busy_s: float = 0.0


class Supervisor:
    """`show` gets every snapshot; `should_stop` says whether the user wants to end; `once` ends the run with the stream,
    `until` where learning has come to these offsets, by partition."""

    def __init__(
        self,
        config: PerennialConfig,
        system: System,
        show: Callable[[Snapshot], None],
        should_stop: Callable[[], bool],
        *,
        once: bool,
        until: Mapping[str, int] | None = None,
    ) -> None:
        self._until = until
        self._config, self._system, self._show, self._should_stop, self._once = config, system, show, should_stop, once
        loop = AsyncLoop if config.consolidation.mode == "async" else SyncLoop
        self._loop: LearningLoop = loop(config, system, self._tick)
        self._health = HealthWatch(system.members)
        self._metrics = Metrics(config.name)
        self._serving = ServingAccount(self._metrics)
        self._started = self._last_tick = time.monotonic()
        self._learning_from: float | None = None
        self._learning_until = self._started
        self._state = RunState.STARTING
        self._tested = self._trained = self._quarantined = self._drift_events = self._refused = 0
        self._quarantined_by_reason: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self._read = 0
        self._last_alarm: tuple[int, str] | None = None
        self._updates: dict[str, int] = {}
        self._seen_observation: Observation | None = None
        self._shards = [_ShardTotals() for _ in system.learners]
        self._throughput, self._versions = Curve(), Curve()
        self._recent_rows: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=100)
        self._known_restarts: dict[str, int] = {}
        self._news: ObjectRef | None = None
        self._joiner_status: ObjectRef | None = None
        self._label_delays: ObjectRef | None = None
        self._stop_requested = False
        self.unwanted: tuple[OffsetRange, ...] = ()  # rows without which the log is to be learned again: then the run has ended
        self._untold: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_UNTOLD)
        self._telling: tuple[ObjectRef, list[tuple[str, dict[str, Any]]]] | None = None  # the call, and what it tells
        self._tell("started", {"version": self._loop.version, "rows": system.resumed.states[-1].rows if system.resumed else 0})
        if resumed := system.resumed:
            position = resumed.position
            self._read, self._tested, self._trained = position.tested_row, position.tested_row, resumed.states[-1].rows
            self._quarantined_by_reason = dict(position.quarantined)
            self._quarantined = sum(position.quarantined.values())
            self._tested -= sum(n for why, n in position.quarantined.items() if not BadRowReason(why).was_predicted)
            self._offsets = dict(position.offsets)
            self._recent_rows[0] = (self._started, self._tested)

    # --- the run

    def run(self) -> None:
        """Until somebody wants to stop, with `once` until the stream is over. Raises PerennialError where it cannot go on."""
        self._send_events()
        self._await_told()
        self._learning_from = time.monotonic()
        while not (self._should_stop() or self._stop_requested or self._is_far_enough() or self._is_to_be_restored()):
            if not self._loop.has_work:
                if self._once:
                    break
                self._loop.finish()
                self._note_observation()
                time.sleep(SLICE_S)
            self._state = RunState.LEARNING if self._step() else RunState.IDLE
            self._learning_until = time.monotonic() if self._state is RunState.LEARNING else self._learning_until
            self._tick()
        self._loop.wind_down()
        while self._loop.has_work:
            self._learning_until = time.monotonic() if self._step() else self._learning_until
        self._state = RunState.STOPPING
        self._loop.finish()
        self._note_observation()
        self._tick(at_once=True)

    def _is_to_be_restored(self) -> bool:
        if self._config.promotion.after_rollback is AfterRollback.RESTORE:
            self.unwanted = self._loop.take_unwanted()
        return bool(self.unwanted)

    def _is_far_enough(self) -> bool:
        return self._until is not None and all(self._offsets.get(part, 0) >= stop for part, stop in self._until.items())

    def commit(self) -> LearningError | None:
        """Makes what has been learned durable. The error where storage refuses: there is a report to be written yet."""
        try:
            self._loop.commit()
        except LearningError as error:
            return error
        return None

    def _step(self) -> bool:
        """Whether there was anything to do."""
        done = self._loop.step()
        if done is not None:
            self._account(done)
        return done is not None

    def end(self) -> dict[str, Any]:
        """Closes what is open and returns the report."""
        system = self._system
        try:
            self._quarantined_by_reason = value_of(system.ingestor.handle.finish.remote())
            value_of(system.evaluator.handle.finish.remote())
            summary = value_of(system.evaluator.handle.summary.remote())
            counts: RowCounts = value_of(system.version_manager.handle.counts.remote(self._loop.version))
        except DEATHS as error:
            raise LearningError(f"a role died while the run was being closed, its report is lost: {error}") from error
        self._state = RunState.STOPPED
        self._tick(at_once=True)
        for _ in range(2):  # what is on its way, and what has come since
            self._send_events()
            self._await_told()
        return self._report(summary, counts)

    def _report(self, summary: dict[str, Any], counts: RowCounts) -> dict[str, Any]:
        seconds = max(0.0, self._learning_until - (self._learning_from or self._started))
        busy_s = max(seconds, 1e-9)
        resumed_rows = self._system.resumed.states[-1].rows if self._system.resumed else 0
        aliases = self._loop.aliases
        return {
            "name": self._config.name,
            "seconds": seconds,
            "rows": {
                "read": counts.read,
                "tested": summary["rows"]["tested"],
                "trained": counts.learned,
                "quarantined": counts.quarantined,
                "waiting": counts.waiting,
                "lost": counts.lost,
                "duplicated": counts.duplicated,
                "quarantined_by_reason": self._quarantined_by_reason,
            },
            "rows_per_s": (counts.learned - resumed_rows) / busy_s if seconds else 0.0,
            "prequential": summary["prequential"],
            "recent": summary["recent"],
            "versions": {
                "head": self._loop.version,
                "production": aliases.production,
                "shadow": aliases.shadow,
                "promoted": self._serving.moves["promoted"],
                "rejected": self._refused + self._serving.moves["rejected"],
                "rolled_back": self._serving.moves["rolled_back"],
                "curve": self._versions.named("row", "version"),
            },
            "drift": summary["drift"],
            "regimes": summary["regimes"],
            "update": {"policy": self._policies(), "updates": summary["updates"], "waiting_rows": self._loop.feed.backlog_rows},
            "learners": [
                {"shard": shard, "rows": t.rows, "replayed_rows": t.replayed, "busy_fraction": min(1.0, t.busy_s / busy_s)}
                for shard, t in enumerate(self._shards)
            ],
            "replay": [{"shard": shard, "rows": h.rows, "bytes": h.nbytes} for shard, h in enumerate(self._loop.feed.holdings)],
            "freshness_s": asdict(self._serving.freshness()),
            "throughput": {"curve": self._throughput.named("seconds", "rows")},
            "actors": [asdict(actor) for actor in self._actors()],
            "feedback": asdict(self._serving.feedback),
            "config": {**self._config.model_dump(mode="json"), "storage": shown(self._config.storage)},
        }

    # --- account

    def _account(self, done: Landed) -> None:
        m, now = self._metrics, time.monotonic()
        replayed = 0
        for receipt in done.commit.receipts:
            shard = self._shards[receipt.work.shard]
            shard.rows += receipt.trained_rows
            shard.replayed += receipt.replayed_rows
            shard.busy_s += receipt.busy_s
            replayed += receipt.replayed_rows
            self._tested += receipt.tested_rows
            self._health.worked(f"learner-{receipt.work.shard}", receipt.busy_s)
        position = done.header.position
        read = max(position.tested_row, self._read)
        m.count("perennial_rows", read - self._read, "read")
        m.count("perennial_rows", sum(r.tested_rows for r in done.commit.receipts), "tested")
        m.count("perennial_rows", done.commit.rows - self._trained, "trained")
        m.count("perennial_rows", replayed, "replayed")
        for reason, rows in position.quarantined.items():
            m.count("perennial_quarantined_rows", rows - self._quarantined_by_reason.get(reason, 0), reason)
        self._quarantined_by_reason = dict(position.quarantined)
        self._read, self._trained, self._quarantined = read, done.commit.rows, sum(position.quarantined.values())
        self._offsets = dict(position.offsets)
        m.set("perennial_backlog_rows", self._loop.feed.backlog_rows)
        for judgement in done.commit.judgements:
            m.count("perennial_versions", 1, str(judgement.outcome))
            self._refused += judgement.outcome is Outcome.REFUSED
        m.set("perennial_version", done.commit.version, "head")
        m.observe_round("learn", max((r.busy_s for r in done.commit.receipts), default=0.0))
        m.observe_round("commit", done.commit.seconds)
        m.observe_round("whole", done.seconds)
        for at, holding in enumerate(self._loop.feed.holdings):
            m.set("perennial_replay_rows", holding.rows, str(at))
            m.set("perennial_replay_bytes", holding.nbytes, str(at))
        self._throughput.add(now - (self._learning_from or now), self._trained)
        self._versions.add(read, done.commit.version)
        self._stop_requested |= done.commit.stop_requested
        self._note_observation()

    def _note_observation(self) -> None:
        seen = self._loop.evaluation.observation
        if seen is None or seen is self._seen_observation:
            return
        self._seen_observation = seen
        for alarm in seen.alarms:
            about = {"row": alarm.row, "detector": alarm.detector, "signal": str(alarm.signal), "action": alarm.action}
            self._tell("drift", {**about, "phase": str(alarm.phase), "evidence": dict(alarm.evidence)})
            if alarm.is_alarm:
                self._metrics.count("perennial_drift_events", 1, alarm.detector, str(alarm.signal))
                self._drift_events += 1
                self._last_alarm = (alarm.row, alarm.detector)
        if seen.steered is not None:
            for policy, updates in seen.steered.updates.items():
                self._metrics.count("perennial_updates", updates - self._updates.get(policy, 0), policy)
            self._updates = dict(seen.steered.updates)
            self._metrics.set("perennial_learning_frozen", float(seen.steered.frozen is not None))
        if seen.alarms:
            self._send_events()
        if seen.recent is not None:
            self._metrics.set("perennial_prequential_score", seen.recent, seen.metric, "head")
        for role, score in seen.role_scores.items():
            self._metrics.set("perennial_prequential_score", score, seen.metric, role)
        past = seen.regimes
        self._metrics.set("perennial_regimes", past.count)
        if past.forgetting is not None:
            self._metrics.set("perennial_forgetting", past.forgetting)
        if seen.evidence is not None and seen.evidence["e_value"] is not None:
            self._metrics.set("perennial_promotion_evidence", seen.evidence["e_value"])

    # --- telling

    def _tick(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._last_tick < self._config.monitor.status_every_s:
            return
        self._last_tick = now
        self._health.ask()
        for name, restarts in self._health.restarts.items():
            again = restarts - self._known_restarts.get(name, 0)
            if again:
                self._metrics.count("perennial_actor_restarts", again, name)
                self._tell("restart", {"actor": name, "restarts": restarts})
            self._known_restarts[name] = restarts
        self._send_events()
        self._recent_rows.append((now, self._tested))
        snapshot = self._snapshot(now)
        self._hear()
        self._news = self._system.version_manager.handle.publish_status.remote(snapshot, self._metrics.families())
        self._ask_joiner()
        self._show(snapshot)

    def _hear(self) -> None:
        """Takes what the version manager and the label joiner have answered; what has died meanwhile says nothing."""
        with suppress(*DEATHS):  # the loop meets a dead version manager at its next commit, and says so
            if self._news is not None and is_ready(self._news):
                news: DeskNews = value_of(self._news)
                self._stop_requested |= news.stop_requested
                if self._loop.take_aliases(news.head, news.aliases):
                    self._serving.take_news(news)
                    self._loop.take_measurements(self._serving.latencies(news.aliases))
        with suppress(*DEATHS, LearningError):
            if self._joiner_status is not None and is_ready(self._joiner_status):
                self._serving.take_joiner(value_of(self._joiner_status))
            if self._label_delays is not None and is_ready(self._label_delays):
                for seconds in value_of(self._label_delays):
                    self._metrics.observe("perennial_label_delay_seconds", seconds)
                self._label_delays = None

    def _ask_joiner(self) -> None:
        """How feedback stands; and what a durable version has learned of it, the journal need not keep."""
        joiner = self._system.label_joiner
        if joiner is not None:
            if self._label_delays is not None:  # it has not answered the last time
                return
            joiner.handle.learned.remote(self._loop.archivist.offsets.get(FEEDBACK, 0))
            self._joiner_status = joiner.handle.status.remote()
            self._label_delays = joiner.handle.take_label_delays.remote()

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        if len(self._untold) == _UNTOLD:
            logger.warning("an event is forgotten, for the version manager takes none: %s", self._untold[0])
        self._untold.append((kind, data))

    def _send_events(self) -> None:
        """All that waits, in one call: it is written down with one fsync. What a version manager died over is told again."""
        if self._telling is not None:
            told, sent = self._telling
            if not is_ready(told):
                return
            self._telling = None
            if has_died(told):
                self._untold.extendleft(reversed(sent))
        if self._untold:
            sent = list(self._untold)
            self._untold.clear()
            tell = self._system.version_manager.handle.tell.options(concurrency_group=WAITING_GROUP)
            self._telling = (tell.remote(sent), sent)

    def _await_told(self) -> None:
        if self._telling is not None:
            with suppress(*DEATHS, LearningError):
                value_of(self._telling[0])

    def _actors(self) -> tuple[ActorHealth, ...]:
        return (*self._health.actors(), *self._serving.actors())

    def _policies(self) -> list[str]:
        return [policy.kind for policy in self._config.update.policy]

    def _update_status(self) -> UpdateStatus:
        steered = self._seen_observation.steered if self._seen_observation else None
        if steered is None:
            return UpdateStatus(tuple(self._policies()))
        return UpdateStatus(
            tuple(self._policies()), steered.updates, self._loop.feed.backlog_rows, steered.frozen, steered.learning_rate_factor
        )

    def _snapshot(self, now: float) -> Snapshot:
        then, rows = next(((t, r) for t, r in self._recent_rows if t >= now - 10.0), self._recent_rows[-1])
        seen = self._seen_observation
        return Snapshot(
            name=self._config.name,
            state=self._state,
            seconds=now - self._started,
            stream=StreamStatus(
                kind=str(self._config.stream.kind),
                rows=self._read,
                tested=self._tested,
                trained=self._trained,
                quarantined=self._quarantined,
                offsets=self._offsets,
            ),
            rows_per_s=(self._tested - rows) / max(now - then, 1e-9) if now > then else 0.0,
            prequential=PrequentialStatus(seen.metric, seen.overall, seen.recent) if seen else PrequentialStatus(),
            aliases=AliasStatus(**self._loop.aliases.names()),
            head=self._loop.version,
            drift=DriftStatus(self._drift_events, *(self._last_alarm or (None, None))),
            update=self._update_status(),
            evidence=EvidenceStatus.of(seen.evidence if seen else None),
            regimes=seen.regimes if seen else RegimeStatus(),
            feedback=self._serving.feedback,
            freshness_s=self._serving.freshness(),
            actors=self._actors(),
        )
