"""Actors that die or hang in the middle of a run: it goes on, and no row is lost or learned twice."""

import os
import signal
from typing import Any

import numpy as np
import pytest
from systems import LiveSystem, alive
from waiting import wait_until

from actors.audit_log import AuditLog

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

ENDLESS = ("model.kind=mlp", "stream.synthetic.rate_rows_per_s=3000", "stream.synthetic.drift=none")
_RECOVERY_TIMEOUT_S = 90.0


def test_a_run_outlives_the_deaths_of_its_actors_and_a_learner_that_hangs(ray_cluster, tmp_path):
    with LiveSystem(ray_cluster, tmp_path, "mortal-actors", *ENDLESS, "learners.round_timeout_s=3") as system:
        for victims in (("learner-0", "replay-0"), ("ingestor", "version_manager")):
            killed = {victim: pid_of(system, victim) for victim in victims}
            for pid in killed.values():
                os.kill(pid, signal.SIGKILL)
            for victim, pid in killed.items():
                goes_on_without(system, victim, pid)
        stopped = pid_of(system, "learner-1")
        os.kill(stopped, signal.SIGSTOP)
        status = goes_on_without(system, "learner-1", stopped)
        assert sum(actor["restarts"] for actor in status["actors"]) == 5, "nobody else was started again"
        assert_all_rows_are_accounted_for(system)
        wait_until(lambda: not alive({stopped}), 30, "the end of the process that hung")
    told = AuditLog(str(tmp_path / "storage")).read(100, ["restart"])
    assert {entry["actor"] for entry in told} == {"learner-0", "replay-0", "ingestor", "version_manager", "learner-1"}


def actor_of(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(actor for actor in status["actors"] if actor["name"] == name)


def pid_of(system: LiveSystem, name: str) -> int:
    """The actor's process, once the system has learned some rows."""
    system.wait_for_rows(2000)
    status = wait_until(lambda: (s := system.status()) and actor_of(s, name)["alive"] and s, 30, f"a sign of life of {name}")
    return int(actor_of(status, name)["pid"])


def goes_on_without(system: LiveSystem, name: str, pid: int) -> dict[str, Any]:
    """The status once another process has the role, and more rows have been learned since."""

    def replaced() -> dict[str, Any] | None:
        status = system.status()
        actor = actor_of(status, name) if status else None
        return status if actor and actor["alive"] and actor["pid"] != pid else None

    status = wait_until(replaced, _RECOVERY_TIMEOUT_S, f"another process for {name}")
    assert actor_of(status, name)["restarts"] == 1
    return system.wait_for_rows(status["stream"]["trained"] + 1000, _RECOVERY_TIMEOUT_S)


def assert_all_rows_are_accounted_for(system: LiveSystem) -> None:
    done = system.stop()
    rows = done.report["rows"]
    assert rows["lost"] == rows["duplicated"] == rows["quarantined"] == 0
    assert rows["read"] == rows["tested"] == rows["trained"] >= 5000
    assert np.array_equal(np.sort(done.predictions["row"].to_numpy()), np.arange(rows["tested"]))
    assert done.correct_N[-1000:].mean() > 0.75
