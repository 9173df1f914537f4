"""The aliases as a pure machine."""

import json
from dataclasses import asdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.learning.gate.comparison import Cause
from actors.learning.gate.gate import Decision, Verdict
from actors.learning.promotion import Aliases, PromotionPolicy

ALWAYS, MANUAL = PromotionPolicy.ALWAYS, PromotionPolicy.MANUAL


def after(commits, policy, aliases=None):
    aliases = aliases or Aliases()
    for head in commits:
        aliases = aliases.committed(head, policy)
    return aliases


def test_production_follows_every_version_or_stays_with_the_first():
    assert after([1, 2, 3], ALWAYS) == Aliases(production=3, shadow=3, previous=2)
    assert after([1, 2, 3], MANUAL) == Aliases(production=1, shadow=3, previous=None)


def test_after_a_rollback_production_stays_until_the_head_is_promoted():
    back = after([1, 2, 3], ALWAYS).rolled_back(None)
    assert back.names() == {"production": 2, "shadow": 3, "previous": 3} and back.is_held
    assert after([4, 5], ALWAYS, back).names() == {"production": 2, "shadow": 5, "previous": 3}
    again = after([4, 5], ALWAYS, back).promoted(5, head=5)
    assert again.names() == {"production": 5, "shadow": 5, "previous": 2} and after([6], ALWAYS, again).production == 6


def test_a_version_that_was_chosen_by_hand_stays():
    chosen = after([1, 2, 3], ALWAYS).promoted(1, head=3)
    assert after([4], ALWAYS, chosen).names() == {"production": 1, "shadow": 4, "previous": 3}


def test_moving_production_to_where_it_is_forgets_nothing():
    aliases = after([1, 2, 3], ALWAYS)
    assert aliases.promoted(3, head=3).previous == 2


def test_there_is_nothing_to_roll_back_to_before_production_has_moved():
    with pytest.raises(ValueError, match="no previous version"):
        after([1], MANUAL).rolled_back(None)


class Moves(RuleBasedStateMachine):
    """Whoever moves production, in whatever order, and however late the gate's decision comes."""

    @initialize(policy=st.sampled_from(PromotionPolicy))
    def begin(self, policy):
        self.policy, self.aliases, self.head = policy, Aliases(), 0
        self.on_their_way = []

    @rule(versions=st.integers(1, 3))
    def commit(self, versions):
        before = self.aliases
        for _ in range(versions):
            self.head += 1
            self.aliases = self.aliases.committed(self.head, self.policy)
        if before.is_held or (self.policy is not ALWAYS and before.production is not None):
            assert self.aliases.production == before.production, "only somebody, or the gate, moves it"

    @precondition(lambda self: self.head)
    @rule(data=st.data())
    def promote(self, data):
        version = data.draw(st.integers(1, self.head))
        self.aliases = self.aliases.promoted(version, self.head)
        assert self.aliases.production == version and self.aliases.is_held == (version != self.head)

    @precondition(lambda self: self.head and self.aliases.previous is not None)
    @rule()
    def roll_back(self):
        before = self.aliases
        self.aliases = before.rolled_back(None)
        assert (self.aliases.production, self.aliases.previous) == (before.previous, before.production)

    @precondition(lambda self: self.head and self.aliases.is_pinned)
    @rule(verdict=st.sampled_from(Verdict))
    def gate_decides(self, verdict):
        """Of what is compared now; production is the incumbent, or the candidate that is watched."""
        pair = (self.aliases.shadow, self.aliases.production)
        self.on_their_way.append(decision(verdict, *(pair if verdict is not Verdict.ROLL_BACK else reversed(pair))))

    @precondition(lambda self: self.head and self.on_their_way)
    @rule(data=st.data())
    def decision_arrives(self, data):
        each = data.draw(st.sampled_from(self.on_their_way))
        before, self.aliases = self.aliases, self.aliases.decided(each)
        if {before.production, before.shadow} != {each.candidate, each.incumbent} or not before.is_pinned:
            assert self.aliases == before, "somebody has moved them meanwhile"

    @precondition(lambda self: self.head)
    @rule()
    def start_again(self):
        self.aliases = Aliases(**json.loads(json.dumps(asdict(self.aliases))))

    @invariant()
    def is_consistent(self):
        self.aliases.validate(self.head)


Moves.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_aliases_never_contradict_themselves = Moves.TestCase


# --- policy evidence


def decision(verdict, candidate, incumbent):
    return Decision(verdict, Cause.EVIDENCE, candidate, incumbent, 500, 21.0, 3, "because")


def examined():
    """Version 1 is production, 2 the shadow that is compared with it; the head is 4."""
    aliases = Aliases()
    for head in (1, 2, 3, 4):
        aliases = aliases.committed(head, PromotionPolicy.EVIDENCE)
    return aliases


def test_the_shadow_stays_while_it_is_examined():
    assert examined() == Aliases(production=1, shadow=2, is_pinned=True)


def test_a_promoted_version_is_watched_beside_the_one_it_replaced_and_goes_back_when_it_was_a_mistake():
    promoted = examined().decided(decision(Verdict.PROMOTE, 2, 1))
    assert promoted == Aliases(production=2, shadow=1, previous=1, is_pinned=True)
    assert promoted.committed(5, PromotionPolicy.EVIDENCE) == promoted
    back = promoted.decided(decision(Verdict.ROLL_BACK, 2, 1))
    assert (back.production, back.previous, back.is_pinned) == (1, 2, False)
    assert back.committed(6, PromotionPolicy.EVIDENCE) == Aliases(production=1, shadow=6, previous=2, is_pinned=True)


def test_another_policy_does_not_leave_the_shadow_pinned():
    assert examined().committed(5, PromotionPolicy.ALWAYS) == Aliases(production=5, shadow=5, previous=1)


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.REPIN])
def test_after_a_refusal_or_when_time_is_up_the_next_version_is_the_shadow(verdict):
    aliases = examined().decided(decision(verdict, 2, 1)).committed(5, PromotionPolicy.EVIDENCE)
    assert aliases == Aliases(production=1, shadow=5, is_pinned=True)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_decision_about_versions_that_somebody_has_moved_meanwhile_changes_nothing(verdict):
    for aliases in (examined().promoted(3, 4), examined().rolled_back(3), examined()):
        assert aliases.decided(decision(verdict, 7, 1)) == aliases
    held = examined().promoted(3, 4)
    assert held.decided(decision(verdict, 2, 1)) == held
    assert held.committed(5, PromotionPolicy.EVIDENCE) == Aliases(production=3, shadow=5, previous=1, is_held=True)
    assert held.promoted(5, 5).committed(6, PromotionPolicy.EVIDENCE).is_pinned
