"""The aliases as a pure machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.lists(st.sampled_from(["commit", "promote", "rollback"]), max_size=40), st.sampled_from([ALWAYS, MANUAL]), st.data())
def test_production_always_names_a_version_that_there_was(events, policy, data):
    aliases, head = Aliases(), 0
    for event in ["commit", *events]:
        if event == "commit":
            head += 1
            aliases = aliases.committed(head, policy)
        elif event == "promote":
            aliases = aliases.promoted(data.draw(st.integers(1, head)), head)
        elif aliases.previous is not None:
            aliases = aliases.rolled_back(None)
        assert aliases.shadow == head and 1 <= aliases.production <= head
        assert aliases.previous is None or (1 <= aliases.previous <= head and aliases.previous != aliases.production)


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
