"""Async mode: every contribution becomes a version, and no shard waits for another."""

import logging
import time
from collections.abc import Callable

import ray

from actors.errors import LearningError
from actors.version_manager import Commit
from cluster.calls import ATTEMPTS, DEATHS, SLICE_S, await_life, has_died, is_ready, value_of
from cluster.config import PerennialConfig
from cluster.feed import Assignment
from cluster.launch import System
from cluster.loop import Landed, LearningLoop

logger = logging.getLogger(__name__)


class AsyncLoop(LearningLoop):
    """Every version is what one shard learned of its part of a round, from the head that there was when the round came."""

    def __init__(self, config: PerennialConfig, system: System, tick: Callable[[], None]) -> None:
        self._learning: list[Assignment] = []  # at a learner
        self._observed_round = -1
        super().__init__(config, system, tick)

    @property
    def _is_idle(self) -> bool:
        return not (self._waiting or self._learning)

    def step(self) -> Landed | None:
        while True:
            self._give_out(is_cut_due=self._cut_if_due())
            if not self._learning:
                return None
            ready, _ = ray.wait([a.receipt for a in self._learning], num_returns=1, timeout=SLICE_S)
            self.tick()
            self.evaluation.take()
            for a in [a for a in self._learning if a.receipt in ready]:
                if has_died(a.receipt):
                    self._revive(a)
                    continue
                self._learning.remove(a)
                return self._land(a)
            for a in self._learning:
                if time.monotonic() - a.sent > self.config.learners.round_timeout_s:
                    ray.kill(self.system.learners[a.learner].handle, no_restart=False)
                    self._revive(a)

    def _give_out(self, *, is_cut_due: bool) -> None:
        """Work for every learner that has none, as far as there is some; no new round while a version is to be cut."""
        while len(self._learning) < len(self.system.learners):
            if not self._waiting:
                if self.feed.is_over or is_cut_due or (self._learning and not is_ready(self.feed.next_header)):
                    return
                dealt = self.feed.take()
                if dealt is None:
                    return
                for a in dealt.assignments:
                    a.base = self._head  # whenever they are given out: a later one may have learned the labels of this round
                self._waiting.extend(dealt.assignments)
            free = sorted(set(range(len(self.system.learners))) - {a.learner for a in self._learning})
            a = self._waiting.popleft()
            self._send(a, a.work.shard if a.work.shard in free else free[0], a.base or self._head)
            self._learning.append(a)

    def _land(self, a: Assignment) -> Landed:
        is_new = a.header.round > self._observed_round
        self._observed_round = max(self._observed_round, a.header.round)
        self.evaluation.wait_for(self.evaluation.observe(a.header, a.batch if is_new else None, [a]))
        for _ in range(ATTEMPTS):
            commit_ref, self._head = self._commit_of(a.header, [a])
            try:
                commit: Commit = value_of(commit_ref)
            except DEATHS:
                self._ensure_version_manager()
                continue
            a.base = None  # it would be kept in memory as long as what the replay shards have to hear of this work
            self._note(a.header, commit, self._head)
            if self._is_recall_due(a.header.position):
                self.evaluation.recall(a.header.round, self._head)
            self.feed.sent([a])
            self._learn_stale_again([a], commit)
            return Landed(a.header, commit, time.monotonic() - a.sent)
        raise LearningError(f"the version manager died {ATTEMPTS} times in a row; Ray's logs tell why")

    def _revive(self, a: Assignment) -> None:
        """The same work again, rows that are to be predicted from the same head."""
        logger.warning("contribution %s is given out again: its learner died or hung", a.work.contribution_id)
        await_life(self.system.learners[a.learner], self.tick)
        self.feed.mend(a)
        self._send(a, a.learner, a.base or self._head)
