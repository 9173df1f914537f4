"""Decisions: what follows from an alarm, when what waits is learned, and that nothing waits for ever."""

from itertools import pairwise

import numpy as np
import pytest

from actors.learning.drift.alarm import Alarm
from actors.learning.drift.config import DriftConfig
from actors.learning.drift.input_watch import Phase
from actors.learning.drift.signal import Signal
from actors.learning.order import Order, SetAside, Shrink
from actors.learning.part import pack, unpack
from actors.learning.steering import Seen, Steering, is_steered
from actors.learning.update import UpdateConfig

CONTINUOUS = UpdateConfig()
NO_ERRORS = np.zeros(100)


class Rounds:
    """Feeds rounds of 100 rows, labelled at once, and keeps the last order."""

    def __init__(self, drift=None, update=None, delay=0):
        self.drift = DriftConfig.model_validate(drift or {})
        self.update = UpdateConfig.model_validate(update or {})
        self.steering = Steering(self.drift, self.update)
        self.row, self.round, self.delay, self.alarms, self.order = 0, -1, delay, [], Order()

    def go(self, rounds=1, alarms=(), error=0.0, now=0.0):
        for _ in range(rounds):
            self.round += 1
            self.row += 100
            error_N = np.full(100, error)
            labelled = max(0, self.row - self.delay)
            seen = Seen(self.round, self.row, labelled, 100, error_N, alarms, now)
            self.order, told = self.steering.take(seen)
            self.alarms += told
        return self.order

    def restart(self, broken=()):
        state = unpack(pack(self.steering.to_state()))
        self.steering = Steering(self.drift, self.update)
        self.steering.restore(state, broken)


def alarm(row, signal=Signal.ERROR, phase=Phase.CHANGED, since=-1, source=0):
    return Alarm(row, "adwin", signal, phase, since=since, source=source)


# --- actions


def test_the_default_changes_nothing_whatever_happens():
    rounds = Rounds()
    assert not is_steered(rounds.drift, rounds.update)
    rounds.go(5)
    assert rounds.go(alarms=[alarm(550), alarm(560, Signal.INPUTS)]) == Order(round=5)
    assert [told.action for told in rounds.alarms] == ["alert", "alert"]


def test_a_boost_multiplies_learning_rates_and_fades():
    rounds = Rounds({"actions": [{"kind": "boost", "factor": 5, "rows": 400}]})
    rounds.go(3)
    assert rounds.go(alarms=[alarm(350)]).learning_rate_factor == 5.0
    assert [rounds.go().learning_rate_factor for _ in range(5)] == [4.0, 3.0, 2.0, 1.0, 1.0]
    assert [told.action for told in rounds.alarms] == ["boost"]


def test_an_action_listens_only_to_its_signals_and_rests_after_it_has_acted():
    rounds = Rounds({"actions": [{"kind": "shrink_memory", "rows": 50, "signals": ["inputs"]}], "cool_down_rows": 1000})
    rounds.go(alarms=[alarm(10), alarm(20, Signal.INPUTS)])
    rounds.go(5, alarms=[])
    rounds.go(alarms=[alarm(650, Signal.INPUTS)])
    assert [told.action for told in rounds.alarms] == ["alert", "shrink_memory", "alert"]
    assert rounds.order.shrink == Shrink(20, 50)
    rounds.go(5)
    assert rounds.go(alarms=[alarm(1150, Signal.INPUTS)]).shrink == Shrink(1150, 50)


@pytest.mark.parametrize("then", ["learn", "quarantine"])
def test_a_freeze_ends_after_its_rows(then):
    rounds = Rounds({"actions": [{"kind": "freeze", "rows": 300, "then": then}]})
    rounds.go(2)
    assert rounds.go(alarms=[alarm(250)]).learn_before_row == 300
    assert rounds.steering.standing().frozen == "frozen"
    assert [rounds.go().learn_before_row for _ in range(3)] == [300, 300, None]
    assert rounds.order.set_aside == ((SetAside(300, 600, "frozen"),) if then == "quarantine" else ())


def test_a_broken_feed_freezes_until_it_is_mended_and_its_rows_are_set_aside():
    rounds = Rounds({"detectors": ["adwin", "ks_input"], "actions": ["boost"]}, delay=100)
    assert is_steered(rounds.drift, rounds.update)
    rounds.go(4)
    rounds.go(alarms=[alarm(480, Signal.INPUTS, Phase.BROKEN, since=400, source=1)])
    assert (rounds.order.learn_before_row, rounds.order.set_aside) == (400, ())
    assert rounds.steering.standing().frozen == "broken_feed"
    rounds.go(alarms=[alarm(590)])
    rounds.restart(broken=[1])
    assert rounds.go(3).learn_before_row == 400
    rounds.go(alarms=[alarm(800, Signal.INPUTS, Phase.MENDED, since=400, source=1)])
    assert rounds.order.learn_before_row is None
    assert rounds.order.set_aside == (SetAside(400, 800, "broken_feed"),)
    assert [told.action for told in rounds.alarms] == ["freeze", "alert", "quarantine"], "no boost while it is broken"


def test_a_feed_that_stays_as_it_is_is_learned_and_nothing_set_aside():
    rounds = Rounds({"detectors": ["ks_input"]})
    rounds.go(alarms=[alarm(80, Signal.INPUTS, Phase.BROKEN, since=0)])
    rounds.go(alarms=[alarm(190, Signal.INPUTS, Phase.STAYED, since=0)])
    assert (rounds.order.learn_before_row, rounds.order.set_aside) == (None, ())
    assert rounds.alarms[-1].action == "learn"


def test_a_detector_that_is_gone_keeps_nothing_frozen():
    rounds = Rounds({"detectors": ["ks_input"]})
    rounds.go(alarms=[alarm(80, Signal.INPUTS, Phase.BROKEN, since=0)])
    rounds.restart(broken=[])
    assert rounds.go().learn_before_row is None


def test_no_more_rows_wait_for_a_broken_feed_than_may():
    rounds = Rounds({"detectors": ["ks_input"]}, {"backlog_rows": 1000})
    rounds.go(alarms=[alarm(80, Signal.INPUTS, Phase.BROKEN, since=0)])
    rounds.go(40)
    aside = rounds.order.set_aside
    assert aside[0] == SetAside(0, 1000, "broken_feed")
    assert all(a.stop == b.start for a, b in pairwise(aside))
    assert rounds.row - rounds.order.learn_before_row < 1000


# --- updates


def updates(policy, **settings):
    return Rounds(update={"policy": policy, "warm_up_rows": 0, **settings})


def test_the_first_rows_are_learned_as_they_come():
    rounds = Rounds(update={"policy": "volume", "warm_up_rows": 700})
    assert rounds.steering.orders()[0].learn_before_row == 700
    assert rounds.go(20).learn_before_row == 700


def test_volume_fires_each_time_so_many_rows_wait():
    rounds = updates([{"kind": "volume", "rows": 300}])
    assert [rounds.go().learn_before_row for _ in range(7)] == [0, 0, 300, 300, 300, 600, 600]
    assert rounds.steering.standing().updates == {"volume": 2}
    assert rounds.steering.standing().waiting_rows == 100


def test_on_drift_fires_on_alarms_of_its_signals_and_forgets_them():
    rounds = updates([{"kind": "on_drift", "signals": ["error"]}])
    assert rounds.go(3, alarms=[alarm(1, Signal.INPUTS)]).learn_before_row == 0
    assert rounds.go(alarms=[alarm(350)]).learn_before_row == 400
    assert rounds.go(3).learn_before_row == 400
    assert rounds.alarms[-1].action == "update"


def test_on_degradation_compares_with_what_followed_the_last_update():
    rounds = updates([{"kind": "on_degradation", "window_rows": 200, "drop": 0.1}])
    rounds.go(2, error=0.2)
    assert rounds.go(4, error=0.25).learn_before_row == 0
    assert rounds.go(2, error=0.35).learn_before_row == 800
    assert rounds.go(6, error=0.35).learn_before_row == 800, "the new rate is what it is compared with now"
    rounds = updates([{"kind": "on_degradation", "window_rows": 200, "drop": 0.1}])
    rounds.go(2, error=0.5)
    assert rounds.go(8, error=0.1).learn_before_row == 0, "a model that gets better needs no update"


def test_the_schedule_goes_by_time():
    rounds = updates([{"kind": "schedule", "every_s": 60}])
    assert [rounds.go(now=now).learn_before_row for now in (1000, 1059, 1061, 1100, 1121)] == [0, 0, 300, 300, 500]


def test_policies_combine_and_an_update_by_one_answers_the_others():
    rounds = updates([{"kind": "volume", "rows": 500}, "on_drift"])
    rounds.go(2, alarms=[alarm(50)])
    assert rounds.order.learn_before_row == 200
    assert [rounds.go().learn_before_row for _ in range(5)] == [200, 200, 200, 200, 700]
    assert rounds.steering.standing().updates == {"on_drift": 2, "volume": 1}


def test_continuous_beside_others_stays_continuous():
    rounds = updates(["continuous", "volume"])
    assert not is_steered(rounds.drift, rounds.update)
    assert rounds.go(5).learn_before_row is None


def test_a_policy_that_fires_in_the_cool_down_is_heard_after_it():
    rounds = updates(["on_drift"], cool_down_rows=400)
    rounds.go(4, alarms=[alarm(1)])
    assert rounds.order.learn_before_row == 400
    assert rounds.go(alarms=[alarm(450)]).learn_before_row == 400
    assert [rounds.go().learn_before_row for _ in range(3)] == [400, 400, 800]


def test_a_full_backlog_is_learned_whatever_the_policies_say():
    rounds = updates(["on_drift"], backlog_rows=1000)
    assert rounds.go(9).learn_before_row == 0
    assert rounds.go().learn_before_row == 1000
    assert rounds.steering.standing().updates == {"backlog": 1}


def test_a_frozen_model_makes_no_updates():
    rounds = Rounds(
        {"actions": [{"kind": "freeze", "rows": 500}]}, {"policy": [{"kind": "volume", "rows": 200}], "warm_up_rows": 0}
    )
    rounds.go(alarms=[alarm(50)])
    assert rounds.go(4).learn_before_row == 0
    assert rounds.go(1).learn_before_row == 600


def test_a_machine_that_is_restored_decides_as_if_nothing_had_happened():
    drift = {"detectors": ["adwin", "ks_input"], "actions": ["boost", "shrink_memory", "freeze"], "cool_down_rows": 500}
    update = {
        "policy": ["on_drift", {"kind": "on_degradation", "window_rows": 300}, {"kind": "volume", "rows": 1500}, "schedule"],
        "warm_up_rows": 300,
        "cool_down_rows": 200,
    }
    whole, pieces = Rounds(drift, update), Rounds(drift, update)
    rng = np.random.default_rng(0)
    for number in range(120):
        alarms = [alarm(number * 100 + 5, Signal.ERROR)] if rng.random() < 0.1 else []
        error, now = float(rng.random() * 0.4), number * 100.0
        assert whole.go(alarms=alarms, error=error, now=now) == pieces.go(alarms=alarms, error=error, now=now)
        pieces.restart()
    assert whole.alarms == pieces.alarms and whole.steering.orders() == pieces.steering.orders()
    assert whole.steering.standing() == pieces.steering.standing()
