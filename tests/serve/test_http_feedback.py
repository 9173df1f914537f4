"""POST /feedback: what is taken, what is refused, who may send it and how much."""

import json

import pytest
from http_calls import ask, gateway, post, refusal
from small_system import SmallSystem

from serve.api.rate_limit import RateLimit

GOOD = {"age": 41, "amount": 12.5, "country": "DE"}


def served(*names: str) -> SmallSystem:
    system = SmallSystem()
    system.requests.update({name: GOOD for name in names})
    return system


def test_a_label_for_a_served_request_is_accepted_and_a_repetition_is_a_duplicate():
    system = served("a")
    label = {"request_id": "a", "label": "fraud"}
    first, second = (post(gateway(system), "/feedback", label) for _ in range(2))
    assert (first.status_code, first.json()) == (202, {"accepted": 1, "duplicate": 0, "unknown": 0})
    assert (second.status_code, second.json()) == (202, {"accepted": 0, "duplicate": 1, "unknown": 0})


def test_a_label_for_a_request_that_nobody_knows_is_counted_as_unknown():
    answer = post(gateway(SmallSystem()), "/feedback", {"request_id": "a", "label": "fraud"})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "duplicate": 0, "unknown": 1})


def test_a_score_and_a_labelled_example_reach_the_desk_as_they_were_sent():
    system = served("a")
    items = [{"request_id": "a", "score": 0}, {"features": GOOD, "label": "fraud"}, {"features": GOOD, "label": True}]
    assert post(gateway(system), "/feedback", {"items": items}).status_code == 202
    score, example = system.items
    assert (score.request_id, score.score, score.label, score.features) == ("a", 0.0, None, None)
    assert (example.request_id, example.score, example.label) == (None, None, "fraud")
    assert json.loads(example.features) == GOOD
    assert example.received_at > 1.7e9


def test_an_example_may_bring_a_request_id_of_its_own():
    system = SmallSystem()
    assert post(gateway(system), "/feedback", {"request_id": "a", "features": GOOD, "label": "fraud"}).json()["accepted"] == 1
    assert system.items[0].request_id == "a"


def test_another_label_for_the_same_request_is_a_conflict():
    system = served("a", "b")
    app = gateway(system)
    post(app, "/feedback", {"request_id": "a", "label": "fraud"})
    refusal(post(app, "/feedback", {"request_id": "a", "label": "genuine"}), 409, "conflict", "label")
    refusal(post(app, "/feedback", {"items": [{"request_id": "a", "label": "genuine"}]}), 409, "conflict", "items")
    assert system.labels == {"a": "fraud"}


def test_a_conflict_among_others_is_counted_and_the_others_are_taken():
    system = served("a", "b")
    app = gateway(system)
    post(app, "/feedback", {"request_id": "a", "label": "fraud"})
    items = [{"request_id": "a", "label": "genuine"}, {"request_id": "b", "label": "genuine"}]
    answer = post(app, "/feedback", {"items": items})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicate": 0, "unknown": 0, "conflict": 1})


MALFORMED = {
    "no JSON": ("label=fraud", 422, "invalid_json", None),
    "a list": ("[]", 422, "wrong_type", None),
    "nothing": ("{}", 422, "missing_field", "label"),
    "no label": ('{"request_id": "a"}', 422, "missing_field", "label"),
    "label and score": ('{"request_id": "a", "label": 1, "score": 1}', 422, "wrong_value", "score"),
    "label of nothing": ('{"label": "fraud"}', 422, "missing_field", "request_id"),
    "score of nothing": ('{"score": 1}', 422, "missing_field", "request_id"),
    "score of features": ('{"request_id": "a", "features": {}, "score": 1}', 422, "wrong_value", "features"),
    "label null": ('{"request_id": "a", "label": null}', 422, "wrong_type", "label"),
    "label a list": ('{"request_id": "a", "label": ["fraud"]}', 422, "wrong_type", "label"),
    "label an object": ('{"request_id": "a", "label": {}}', 422, "wrong_type", "label"),
    "label NaN": ('{"request_id": "a", "label": NaN}', 422, "invalid_json", None),
    "label no class": ('{"request_id": "a", "label": "maybe"}', 422, "wrong_value", "label"),
    "score a string": ('{"request_id": "a", "score": "good"}', 422, "wrong_type", "score"),
    "score a boolean": ('{"request_id": "a", "score": true}', 422, "wrong_type", "score"),
    "score infinite": ('{"request_id": "a", "score": -1e999}', 422, "invalid_json", None),
    "id a number": ('{"request_id": 7, "label": "fraud"}', 422, "wrong_type", "request_id"),
    "features a list": ('{"features": [], "label": "fraud"}', 422, "wrong_type", "features"),
    "feature too deep": ('{"features": {"a": {"b": 1}}, "label": "fraud"}', 422, "wrong_type", "features.a"),
    "unknown field": ('{"request_id": "a", "lable": "fraud"}', 422, "unknown_field", "lable"),
    "items and more": ('{"items": [], "label": "fraud"}', 422, "unknown_field", "label"),
    "items an object": ('{"items": {}}', 422, "wrong_type", "items"),
    "no items": ('{"items": []}', 422, "wrong_value", "items"),
    "an item a string": ('{"items": ["a"]}', 422, "wrong_type", "items[0]"),
    "items within items": ('{"items": [{"items": []}]}', 422, "unknown_field", "items[0].items"),
    "third item": (
        '{"items": [{"request_id": "a", "label": 1}, {"request_id": "b", "label": 1}, {"request_id": "c"}]}',
        422,
        "missing_field",
        "items[2].label",
    ),
    "second label no class": (
        '{"items": [{"request_id": "a", "label": 1}, {"request_id": "b", "label": "maybe"}]}',
        422,
        "wrong_value",
        "items[1].label",
    ),
    "feature of the second": (
        '{"items": [{"request_id": "a", "label": 1}, {"features": {"v": [[]]}, "label": 1}]}',
        422,
        "wrong_type",
        "items[1].features.v[0]",
    ),
    "too many": ('{"items": [{},{},{},{}]}', 413, "too_many", "items"),
    "too large": ('{"request_id": "a", "label": "' + "x" * 2_000 + '"}', 413, "too_large", None),
}


@pytest.mark.parametrize("body, status, code, field", MALFORMED.values(), ids=MALFORMED)
def test_malformed_feedback_is_refused_and_nothing_of_it_is_taken(body, status, code, field):
    system = served("a", "b")
    app = gateway(system, max_instances=3, max_request_bytes=1_500)
    refusal(ask(app, "POST", "/feedback", content=body), status, code, field)
    assert system.items == []


CHANGES = {
    "/feedback": {"request_id": "a", "label": "fraud"},
    "/promote": {"version": 2, "reason": "why not"},
    "/rollback": {"version": 2, "reason": "why not"},
}
WRONG = {
    "none": {},
    "another": {"Authorization": "Bearer wrong"},
    "a part": {"Authorization": "Bearer secre"},
    "more": {"Authorization": "Bearer secrets"},
    "empty": {"Authorization": "Bearer "},
    "basic": {"Authorization": "Basic secret"},
    "bare": {"Authorization": "secret"},
    "not ASCII": {"Authorization": "Bearer sécret".encode()},
}


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_what_changes_state_needs_a_token_where_there_are_some(path, headers):
    system = served("a")
    answer = post(gateway(system, "secret", "other"), path, CHANGES[path], headers=headers)
    message = refusal(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "secret" not in message and "other" not in message
    assert system.items == [] and system.moves == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("token", ["Bearer secret", "bearer other", "Bearer  other "])
def test_any_of_the_tokens_opens(path, token):
    answer = post(gateway(served("a"), "secret", "other"), path, CHANGES[path], headers={"Authorization": token})
    assert answer.status_code in (200, 202)


def test_reading_and_predicting_need_no_token():
    app = gateway(SmallSystem(), "secret")
    assert post(app, "/predict", {"features": GOOD}).status_code == 200
    for path in ("/versions", "/versions/1", "/aliases", "/status", "/metrics", "/healthz", "/readyz", "/", "/v2"):
        assert ask(app, "GET", path).status_code == 200


def test_an_empty_token_is_refused_at_the_start():
    with pytest.raises(ValueError, match="empty"):
        gateway(SmallSystem(), "secret", "")


def test_a_client_that_sends_too_fast_is_told_when_to_go_on_and_others_are_not_held_up():
    app = gateway(SmallSystem(), "one", "two", feedback_per_s=0.5)  # five at once

    def send(token: str, items: int):
        document = {"items": [{"request_id": f"{token}{i}", "label": 1} for i in range(items)]}
        return post(app, "/feedback", document, headers={"Authorization": f"Bearer {token}"})

    assert send("one", 4).status_code == 202
    answer = send("one", 4)
    refusal(answer, 429, "too_fast")
    assert 5 <= int(answer.headers["retry-after"]) <= 6  # three items are lacking, at 0.5 a second
    assert send("two", 4).status_code == 202
    assert send("one", 1).status_code == 202  # what is left still goes


def test_without_tokens_clients_are_told_apart_by_their_address_whatever_they_claim_to_be():
    app = gateway(SmallSystem(), feedback_per_s=0.1)  # one at once
    label = {"request_id": "a", "label": 1}
    assert post(app, "/feedback", label, headers={"Authorization": "Bearer x"}).status_code == 202
    refusal(post(app, "/feedback", label, headers={"Authorization": "Bearer y"}), 429, "too_fast")


def test_a_bucket_refills_at_its_rate_and_not_beyond_its_burst():
    limit = RateLimit(per_s=2.0, burst=10.0, max_clients=8)
    assert limit.take("a", 10, now=0.0) == 0
    assert limit.take("a", 4, now=0.5) == pytest.approx(1.5)
    assert limit.take("a", 4, now=2.0) == 0
    assert limit.take("a", 10, now=1_000.0) == 0
    assert limit.take("a", 1, now=1_000.0) == pytest.approx(0.5)


def test_more_than_a_burst_is_let_through_once_and_paid_off():
    limit = RateLimit(per_s=1.0, burst=10.0, max_clients=8)
    assert limit.take("a", 30, now=0.0) == 0
    assert limit.take("a", 1, now=0.0) == pytest.approx(21.0)
    assert limit.take("a", 1, now=21.0) == 0


def test_only_so_many_clients_are_remembered_and_the_forgotten_ones_counted():
    limit = RateLimit(per_s=1.0, burst=1.0, max_clients=3)
    for client in ("a", "b", "c", "a", "d"):
        limit.take(client, 1, now=0.0)
    assert (len(limit), limit.forgotten) == (3, 1)
    assert limit.take("a", 1, now=0.0) > 0  # heard of after b, which gave way
    assert limit.take("b", 1, now=0.0) == 0
