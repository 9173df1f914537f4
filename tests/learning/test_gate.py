"""The gate as a machine: what it decides, that cutting and restarting change nothing, and that nobody confuses it."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.learning.gate.comparison import Cause
from actors.learning.gate.config import GateConfig, GuardsConfig
from actors.learning.gate.gate import Gate, Verdict
from actors.learning.gate.measurements import Measurements
from actors.learning.gate.rows import PairedRows, VersionScores
from actors.learning.part import Part, pack, unpack

EAGER = GateConfig(
    alpha=0.2,
    min_labels=4,
    max_wait_labels=30,
    watch_labels=20,
    false_alarm_labels=60,
    guards=GuardsConfig(slices=2, slice_margin=0.1, slice_alpha=0.5, constant_rows=6, forgetting=0.05),
)
PRODUCTION, SHADOW = 7, 9


def paired(gain, order=0, candidate=SHADOW, incumbent=PRODUCTION, **columns):
    """Rows on which the candidate loses less by `gain`; outputs and labels vary unless they are given."""
    gain_N = np.asarray(gain, dtype=np.float64)
    varied_N = np.arange(len(gain_N)) + 1000.0 * order
    candidate_output_N, label_N = columns.get("output", varied_N), columns.get("label", varied_N)
    one = VersionScores(candidate, np.maximum(-gain_N, 0.0), np.asarray(candidate_output_N, dtype=np.float64))
    other = VersionScores(incumbent, np.maximum(gain_N, 0.0), np.asarray(columns.get("incumbent_output", varied_N)))
    slice_N = np.asarray(columns.get("slice", np.zeros(len(gain_N))), dtype=np.int64)
    return PairedRows(order, np.asarray(label_N, dtype=np.float64), slice_N, one, other)


def examining(config=None):
    gate = Gate(config or GateConfig())
    gate.examine(PRODUCTION, SHADOW)
    return gate


def watching(config=None):
    gate = Gate(config or GateConfig())
    gate.watch(SHADOW, PRODUCTION)
    return gate


def restarted(gate, config):
    part = pack(gate.to_state())
    again = Gate(config)
    again.restore(unpack(Part(part.arrays, json.loads(json.dumps(part.plain, allow_nan=False)))))
    return again


def coins(rows, better, seed=0, disagreement=0.06):
    even_N = np.random.default_rng(seed).random(rows)
    return np.select([even_N < (disagreement + better) / 2, even_N < disagreement], [1.0, -1.0], 0.0)


def outcomes(decisions):
    return [(decision.verdict, decision.cause) for decision in decisions]


# --- examination


def test_a_better_shadow_is_promoted_at_the_row_where_evidence_suffices_and_watched_from_the_next():
    gate = examining()
    promoted, kept = gate.observe(paired(coins(12_000, 0.05)))
    assert outcomes([promoted, kept]) == [(Verdict.PROMOTE, Cause.EVIDENCE), (Verdict.REPIN, Cause.TIME)]
    assert promoted.e_value >= 20 and promoted.labels == promoted.row + 1 >= 200
    assert kept.labels == 10_000 and kept.row == promoted.row + 10_000
    assert gate.status()["phase"] == "watching" and gate.status()["labels"] == 12_000 - promoted.labels


def test_a_shadow_that_is_no_better_waits_until_a_newer_one_may_come_and_its_evidence_goes_on():
    gate = examining(GateConfig(max_wait_labels=500))
    assert outcomes(gate.observe(paired(coins(1_200, 0.0)))) == [(Verdict.REPIN, Cause.TIME)] * 2
    gate.examine(PRODUCTION, SHADOW)
    assert gate.status()["labels"] == 1_200
    gate.examine(PRODUCTION, SHADOW + 1)
    assert gate.status()["labels"] == 0 and gate.status()["e_value"] == 1


def test_a_worse_shadow_is_rejected_early_and_not_examined_again():
    gate = examining()
    (decision,) = gate.observe(paired(coins(20_000, -0.05)))
    assert outcomes([decision]) == [(Verdict.REJECT, Cause.REGRET)] and decision.labels < 1_000
    gate.examine(PRODUCTION, SHADOW)
    assert gate.status()["phase"] is None and gate.status()["decision"] == "reject"
    gate.examine(PRODUCTION, SHADOW + 1)
    assert gate.status()["phase"] == "examining" and gate.status()["decision"] == "waiting"


def test_too_few_labels_hold_a_promotion_back():
    (decision,) = examining().observe(paired(np.ones(300)))
    assert decision.labels == 200
    gate = examining()
    gate.observe(paired(np.ones(50)))
    assert any("promotion.min_labels" in point for point in gate.status()["reasons"])


def test_a_slow_shadow_waits_until_it_is_fast():
    gate = examining()
    gate.measure(Measurements(SHADOW, production_latency_ms=4.0, shadow_latency_ms=12.0))
    gate = restarted(gate, GateConfig())
    assert gate.observe(paired(np.ones(500))) == []
    assert any("12.0 ms" in point for point in gate.status()["reasons"])
    gate.measure(Measurements(SHADOW, production_latency_ms=4.0, shadow_latency_ms=6.0))
    assert outcomes(gate.observe(paired([0.0], order=1))) == [(Verdict.PROMOTE, Cause.EVIDENCE)]


def test_a_shadow_that_has_forgotten_waits_however_good_it_is_now():
    config = GateConfig(guards=GuardsConfig(forgetting=0.05))
    gate = examining(config)
    gate.measure(Measurements(SHADOW, forgetting=0.06))
    gate = restarted(gate, config)
    assert gate.observe(paired(np.ones(500))) == []
    assert any("it lost 0.06 on the past regimes" in point for point in gate.status()["reasons"])
    assert gate.status()["measured"]["forgetting"] == 0.06
    gate.measure(Measurements(SHADOW, forgetting=0.04))
    gate.measure(Measurements(SHADOW + 1, forgetting=0.9))  # nobody examines that version
    assert outcomes(gate.observe(paired([0.0], order=1))) == [(Verdict.PROMOTE, Cause.EVIDENCE)]


def test_latencies_that_differ_by_less_than_a_millisecond_are_alike():
    gate = examining()
    gate.measure(Measurements(SHADOW, production_latency_ms=0.2, shadow_latency_ms=1.1))
    assert outcomes(gate.observe(paired(np.ones(500)))) == [(Verdict.PROMOTE, Cause.EVIDENCE)]


def test_a_shadow_that_gains_on_most_rows_and_fails_one_class_is_rejected():
    slice_N = np.arange(1_000) % 10
    gain_N = np.where(slice_N == 3, -1.0, 0.2)
    (decision,) = examining().observe(paired(gain_N, slice=slice_N))
    assert outcomes([decision]) == [(Verdict.REJECT, Cause.SLICE)]


def test_guards_that_are_off_let_pass():
    gate = examining(GateConfig(guards=GuardsConfig(latency_factor=None, forgetting=None)))
    gate.measure(Measurements(SHADOW, 1.0, 100.0, 0.9))
    assert outcomes(gate.observe(paired(np.ones(200)))) == [(Verdict.PROMOTE, Cause.EVIDENCE)]


# --- tripwires, in both phases

PHASES = pytest.mark.parametrize("begin, verdict", [(examining, Verdict.REJECT), (watching, Verdict.ROLL_BACK)])


@PHASES
@pytest.mark.parametrize("nothing", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_trips_at_once(begin, verdict, nothing):
    (decision,) = begin().observe(paired(np.ones(50), output=[1.0, 2.0, nothing, *range(47)]))
    assert outcomes([decision]) == [(verdict, Cause.NON_FINITE)] and decision.row == 2


@PHASES
def test_a_constant_output_trips_only_where_labels_and_the_other_version_vary(begin, verdict):
    flat_N, gain_N = np.full(400, 3.0), np.zeros(400)
    (decision,) = begin().observe(paired(gain_N, output=flat_N))
    assert outcomes([decision]) == [(verdict, Cause.CONSTANT_OUTPUT)] and decision.row == 199
    assert begin().observe(paired(gain_N, output=flat_N, label=flat_N)) == []
    assert begin().observe(paired(gain_N, output=flat_N, incumbent_output=flat_N)) == []


@PHASES
def test_an_error_spike_trips_within_tens_of_rows(begin, verdict):
    gain_N = np.concatenate([coins(3_000, 0.0), np.full(100, -1.0)])
    (decision,) = begin().observe(paired(gain_N))
    assert outcomes([decision]) == [(verdict, Cause.REGRET)] and 3_000 <= decision.row < 3_030


def test_production_that_gives_no_answers_loses_to_any_shadow():
    gate = examining()
    (decision,) = gate.observe(paired(np.zeros(200), incumbent_output=np.full(200, np.nan)))
    assert outcomes([decision]) == [(Verdict.PROMOTE, Cause.EVIDENCE)]


# --- watch


def test_a_promoted_version_that_turns_out_worse_is_rolled_back_and_not_examined_again():
    gate = watching()
    (decision,) = gate.observe(paired(coins(10_000, -0.05)))
    assert outcomes([decision]) == [(Verdict.ROLL_BACK, Cause.REGRET)] and decision.candidate == SHADOW
    gate.examine(PRODUCTION, SHADOW)
    assert gate.status()["phase"] is None


def test_rows_that_name_the_versions_the_other_way_round_mean_the_same():
    rows = paired(coins(2_000, 0.05))
    swapped = PairedRows(0, rows.label_N, rows.slice_N, rows.other, rows.one)
    assert examining().observe(rows) == examining().observe(swapped) != []


def test_the_aliases_of_a_watch_do_not_end_it():
    gate = watching()
    gate.observe(paired(coins(100, 0.0)))
    gate.examine(SHADOW, PRODUCTION)
    assert gate.status()["phase"] == "watching" and gate.status()["labels"] == 100
    gate.examine(SHADOW, SHADOW + 1)
    assert gate.status()["phase"] == "examining" and gate.status()["candidate"] == SHADOW + 1


# --- what it is told wrongly


def test_repeated_messages_and_other_versions_change_nothing_and_are_counted():
    gate = examining()
    gate.observe(paired([1.0, 1.0], order=5))
    before = gate.status()
    gate.observe(paired([1.0, 1.0], order=5))
    gate.observe(paired([1.0], order=4))
    gate.observe(paired([-1.0], order=6, candidate=SHADOW + 1))
    assert gate.status() == before | {"rows": {"stale": 1, "repeated": 3}}


@pytest.mark.parametrize(
    "build, match",
    [
        (lambda: paired([0.5], candidate=PRODUCTION), "version 7 cannot be compared with itself"),
        (lambda: paired([1.5]), "version 7 has losses outside 0 to 1, up to 1.5"),
        (lambda: paired([np.nan]), "losses outside 0 to 1"),
        (lambda: paired([0.5], label=[1.0, 2.0]), "version 9 is scored on other rows than the 2 that have labels"),
        (lambda: Measurements(SHADOW, forgetting=np.nan), "a measurement of version 9 is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_every_key_that_a_reason_names_exists():
    reasons = [
        *(decision.reason for decision in examining(GateConfig(max_wait_labels=9)).observe(paired(np.zeros(9)))),
        *(decision.reason for decision in examining().observe(paired(np.ones(200)))),
        *(decision.reason for decision in examining().observe(paired(-np.ones(200), slice=np.arange(200)))),
        *(decision.reason for decision in examining().observe(paired(np.zeros(200), output=np.ones(200)))),
        *(decision.reason for decision in examining().observe(paired(-np.ones(50), slice=np.full(50, -1)))),
    ]
    slow = examining(GateConfig(guards=GuardsConfig(forgetting=0.05)))
    slow.measure(Measurements(SHADOW, 1.0, 9.0, 0.5))
    named = re.findall(r"promotion\.([a-z_.]+)", " ".join([*reasons, *slow.status()["reasons"]]))
    fields = {*GateConfig.model_fields, *(f"guards.{name}" for name in GuardsConfig.model_fields)}
    assert set(named) <= fields and len(set(named)) >= 6


# --- laws

row = st.tuples(st.sampled_from([-1.0, 0.0, 0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.0, 1.0, 2.0]), st.integers(-1, 3))


@settings(max_examples=150, deadline=None)
@given(messages=st.lists(st.lists(row, max_size=20), min_size=1, max_size=6), is_watch=st.booleans())
def test_decisions_are_the_same_however_rows_are_cut_and_whenever_it_restarts(messages, is_watch):
    whole = watching(EAGER) if is_watch else examining(EAGER)
    pieces = restarted(whole, EAGER)
    rows = [each for message in messages for each in message]
    gain, output, slices = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    everything = paired(gain, order=len(messages), output=output, slice=slices, label=np.arange(len(rows)))
    expected, found, start = whole.observe(everything), [], 0
    for order, message in enumerate(messages, start=1):
        part = replace(everything.part(start, start + len(message)), order=order)
        found += [replace(each, row=start + each.row) for each in pieces.observe(part)]
        pieces = restarted(pieces, EAGER)
        start += len(message)
    assert found == expected
    one, other = pack(pieces.to_state()), pack(whole.to_state())
    assert one.plain == other.plain
    assert all(one.arrays[name].tobytes() == other.arrays[name].tobytes() for name in other.arrays)


class Gates(RuleBasedStateMachine):
    """A driver that obeys, people who move aliases at any time, and messages that come late, twice or about the past."""

    def __init__(self):
        super().__init__()
        self.gate = Gate(EAGER)
        self.head, self.production, self.shadow = 3, 1, 3
        self.refused = set()
        self.order = 0
        self.sent = []
        self.gate.examine(self.production, self.shadow)

    def obey(self, decisions):
        for decision in decisions:
            assert decision.reason and decision.candidate != decision.incumbent
            match decision.verdict:
                case Verdict.PROMOTE:
                    assert decision.candidate not in self.refused and decision.labels >= EAGER.min_labels
                    assert decision.e_value >= 1 / EAGER.alpha
                    self.production, self.shadow = decision.candidate, decision.incumbent
                case Verdict.ROLL_BACK:
                    self.production, self.shadow = decision.incumbent, self.head
                    self.refused = {decision.candidate}
                case Verdict.REJECT:
                    self.shadow = self.head
                    self.refused = {decision.candidate}
                case Verdict.REPIN:
                    self.shadow = self.head
        if decisions:
            self.gate.examine(self.production, self.shadow)

    def send(self, gain, candidate, incumbent):
        self.sent.append(paired(gain, self.order, candidate, incumbent))
        self.order += 1
        self.obey(self.gate.observe(self.sent[-1]))

    @rule(gain=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=25))
    def labels_come(self, gain):
        if self.shadow != self.production:
            self.send(gain, self.shadow, self.production)

    @rule(rows=st.integers(1, 40), gain=st.sampled_from([-1.0, 0.0, 1.0]))
    def one_version_is_plainly_better(self, rows, gain):
        if self.shadow != self.production:
            self.send([gain] * rows, self.shadow, self.production)

    @rule(back=st.integers(1, 5))
    def labels_about_the_past_come(self, back):
        before = self.gate.status()
        self.send([1.0] * 5, self.head + back, self.production)
        assert self.gate.status()["labels"] == before["labels"] and self.gate.status()["e_value"] == before["e_value"]

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 3))
    def a_message_is_repeated(self, back):
        before = self.gate.to_state()
        assert self.gate.observe(self.sent[-min(back, len(self.sent))]) == []
        assert self.gate.to_state()["comparison"] is None or self.gate.to_state()["last_order"] == before["last_order"]
        assert pack(self.gate.to_state()["comparison"]).plain == pack(before["comparison"]).plain

    @rule()
    def the_head_moves_on(self):
        self.head += 1

    @rule(is_watched=st.booleans())
    def somebody_promotes_the_head(self, is_watched):
        if self.head != self.production:
            self.production, self.shadow = self.head, self.production
            if is_watched:
                self.gate.watch(self.production, self.shadow)
            else:
                self.shadow = self.head
                self.gate.examine(self.production, self.shadow)

    @rule(target_version=st.integers(1, 3))
    def somebody_rolls_back(self, target_version):
        self.production, self.shadow = target_version, self.head
        self.gate.examine(self.production, self.shadow)

    @rule(version=st.integers(1, 6), latency=st.sampled_from([1.0, 9.0]), forgetting=st.sampled_from([None, 0.0, 0.9]))
    def measurements_come(self, version, latency, forgetting):
        self.gate.measure(Measurements(version, 1.0, latency, forgetting))

    @rule()
    def it_restarts(self):
        before = self.gate.status()
        self.gate = restarted(self.gate, EAGER)
        assert self.gate.status() == before

    @invariant()
    def it_is_consistent(self):
        self.gate.validate()
        status = self.gate.status()
        json.dumps(status, allow_nan=False)
        assert status["reasons"]
        if status["phase"] == "examining":
            assert (status["candidate"], status["incumbent"]) == (self.shadow, self.production)
            assert status["candidate"] not in self.refused
        if status["phase"] == "watching":
            assert (status["candidate"], status["incumbent"]) == (self.production, self.shadow)
        if status["phase"] is None:
            assert self.shadow in {self.production, *self.refused}, "somebody could be examined, and nobody is"


Gates.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
test_gates_never_contradict_themselves = Gates.TestCase
