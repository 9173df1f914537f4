"""The gateway's other calls: versions, promotion, status, metrics, health, the page, and what does not exist."""

import re

import pytest
from http_calls import ask, gateway, post, refusal
from prometheus_client.parser import text_string_to_metric_families
from small_system import SmallSystem

from serve.api.exposition import exposition
from serve.interfaces import MetricFamily, RequestError


def test_versions_come_newest_first_and_as_many_as_asked_for():
    app = gateway(SmallSystem())
    assert [v["version"] for v in ask(app, "GET", "/versions").json()["versions"]] == [2, 1, 0]
    assert [v["version"] for v in ask(app, "GET", "/versions?newest=1").json()["versions"]] == [2]
    assert [v["version"] for v in ask(app, "GET", "/versions?newest=1&below=2").json()["versions"]] == [1]


@pytest.mark.parametrize("newest", ["0", "1001", "-1", "1.5", "all", "", "9" * 40, "٣"])
def test_a_number_of_versions_that_is_none_is_refused(newest):
    refusal(ask(gateway(SmallSystem()), "GET", "/versions", params={"newest": newest}), 422, "wrong_value", "newest")


@pytest.mark.parametrize("below", ["-1", "1.5", "all", "", "9" * 40])
def test_a_place_in_the_list_of_versions_that_is_none_is_refused(below):
    refusal(ask(gateway(SmallSystem()), "GET", "/versions", params={"below": below}), 422, "wrong_value", "below")


def test_one_version_is_shown_by_its_number():
    assert ask(gateway(SmallSystem()), "GET", "/versions/2").json() == {"version": 2, "parent": 1}


@pytest.mark.parametrize("number", ["3", "-1", "newest", "1.0", "9" * 40, "%D9%A3", "%00"])
def test_a_version_that_is_not_there_is_404(number):
    refusal(ask(gateway(SmallSystem()), "GET", f"/versions/{number}"), 404, "unknown_version")


def test_a_promotion_moves_production_and_a_rollback_moves_it_back():
    system = SmallSystem()
    app = gateway(system)
    moved = post(app, "/promote", {"version": 2, "reason": "reviewed"})
    assert (moved.status_code, moved.json()) == (200, {"production": 2, "previous": 1, "effective_ms": 1.5})
    assert ask(app, "GET", "/aliases").json() == {"production": 2, "shadow": None, "previous": 1}
    assert post(app, "/rollback", {"reason": "worse"}).json()["production"] == 1
    assert post(app, "/rollback", {"reason": "older", "version": 0}).json()["production"] == 0
    assert system.moves == [(2, "reviewed", "http 127.0.0.1"), (1, "worse", "http 127.0.0.1"), (0, "older", "http 127.0.0.1")]


def test_the_audit_log_learns_which_token_moved_production_and_not_the_token():
    system = SmallSystem()
    post(gateway(system, "a", "b"), "/promote", {"version": 2, "reason": "why"}, headers={"Authorization": "Bearer b"})
    assert system.moves == [(2, "why", "http token 2")]


MOVES = {
    "no version": ("/promote", '{"reason": "a"}', 422, "missing_field", "version"),
    "no reason": ("/promote", '{"version": 1}', 422, "missing_field", "reason"),
    "no reason to roll back": ("/rollback", "{}", 422, "missing_field", "reason"),
    "reason a number": ("/rollback", '{"reason": 1}', 422, "wrong_type", "reason"),
    "reason blank": ("/rollback", '{"reason": "  "}', 422, "wrong_value", "reason"),
    "reason too long": ("/rollback", '{"reason": "' + "a" * 1_001 + '"}', 422, "wrong_value", "reason"),
    "version a string": ("/promote", '{"version": "1", "reason": "a"}', 422, "wrong_type", "version"),
    "version a boolean": ("/promote", '{"version": true, "reason": "a"}', 422, "wrong_type", "version"),
    "version a fraction": ("/promote", '{"version": 1.0, "reason": "a"}', 422, "wrong_type", "version"),
    "version null": ("/rollback", '{"version": null, "reason": "a"}', 422, "wrong_type", "version"),
    "version not kept": ("/promote", '{"version": 9, "reason": "a"}', 404, "unknown_version", "version"),
    "version negative": ("/promote", '{"version": -1, "reason": "a"}', 404, "unknown_version", "version"),
    "version huge": ("/promote", '{"version": 1' + "0" * 200 + ', "reason": "a"}', 404, "unknown_version", "version"),
    "unknown field": ("/promote", '{"version": 1, "reason": "a", "force": true}', 422, "unknown_field", "force"),
    "no JSON": ("/promote", "1", 422, "wrong_type", None),
    "nothing to go back to": ("/rollback", '{"reason": "a"}', 404, "unknown_version", None),
}


@pytest.mark.parametrize("path, body, status, code, field", MOVES.values(), ids=MOVES)
def test_a_move_that_cannot_be_made_moves_nothing(path, body, status, code, field):
    system = SmallSystem()
    refusal(ask(gateway(system), "POST", path, content=body), status, code, field)
    assert (system.production, system.moves) == (1, [])


def test_status_is_the_desks_with_null_for_what_json_cannot_hold():
    status = ask(gateway(SmallSystem()), "GET", "/status").json()
    assert status["stream"] == {"offsets": {"0": 7}, "rows": 7}
    assert status["evidence"] == {"e_value": None, "labels": 4, "decision": "wait"}


def test_metrics_are_what_prometheus_reads():
    answer = ask(gateway(SmallSystem()), "GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["perennial_feedback"].type == "counter"
    assert families["perennial_version"].samples[0].labels == {"alias": "production"}
    delays = {(s.name, s.labels.get("le")): s.value for s in families["perennial_label_delay_seconds"].samples}
    name = "perennial_label_delay_seconds"
    assert delays == {
        (f"{name}_bucket", "0.5"): 1,
        (f"{name}_bucket", "2.0"): 3,
        (f"{name}_bucket", "+Inf"): 4,
        (f"{name}_count", None): 4,
        (f"{name}_sum", None): 6.5,
    }


@pytest.mark.parametrize("kind, value", [("summary", 1.0), ("gauge", ({1.0: 1}, 1.0)), ("histogram", 1.0)])
def test_a_metric_whose_value_is_not_of_its_kind_is_refused(kind, value):
    with pytest.raises(ValueError, match="perennial_x"):
        exposition([MetricFamily("perennial_x", kind, "X.", (), {(): value})])


def test_the_gateway_is_live_at_once_and_ready_with_the_first_version():
    system = SmallSystem(production=None)
    app = gateway(system)
    assert ask(app, "GET", "/healthz").json() == {"status": "live"}
    refusal(ask(app, "GET", "/readyz"), 503, "not_ready")
    system.production = 1
    assert ask(app, "GET", "/readyz").json() == {"status": "ready", "version": 1}


def test_the_page_holds_everything_that_it_needs():
    answer = ask(gateway(SmallSystem()), "GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url\(([^)]+)\)|@import\s+(\S+)""", answer.text)
    addresses = [next(filter(None, match)) for match in loaded]
    assert sorted(a for a in addresses if not a.startswith("data:")) == ["docs", "status"]
    assert "innerHTML" not in answer.text


GETS = (
    "/versions",
    "/versions/1",
    "/aliases",
    "/status",
    "/events",
    "/metrics",
    "/readyz",
    "/v2/health/ready",
    "/v2/models/small",
)


@pytest.mark.parametrize("path", GETS)
def test_every_call_ends_at_its_deadline(path):
    refusal(ask(gateway(SmallSystem(is_stuck=True), timeout_s=0.05), "GET", path), 503, "timeout")


@pytest.mark.parametrize("path", GETS)
def test_every_call_passes_on_that_the_system_cannot_be_reached(path):
    failure = RequestError(503, "unreachable", "the version manager is being started again")
    refusal(ask(gateway(SmallSystem(failure=failure)), "GET", path), 503, "unreachable")


@pytest.mark.parametrize("path", GETS)
def test_every_call_turns_the_unexpected_into_500(path):
    refusal(ask(gateway(SmallSystem(failure=ZeroDivisionError())), "GET", path), 500, "internal")


@pytest.mark.parametrize(
    "path, document", {"/feedback": {"request_id": "a", "label": 1}, "/promote": {"version": 1, "reason": "a"}}.items()
)
def test_what_changes_state_ends_at_its_deadline(path, document):
    refusal(post(gateway(SmallSystem(is_stuck=True), timeout_s=0.05), path, document), 503, "timeout")


@pytest.mark.parametrize(
    "path", ["/nothing", "/versions/", "/feedback/", "/v3", "/v2/models", "/%2e%2e/etc/passwd", "/predict/x"]
)
def test_an_address_that_does_not_exist_is_404(path):
    refusal(ask(gateway(SmallSystem()), "GET", path), 404, "not_found")


@pytest.mark.parametrize(
    "method, path", [("GET", "/predict"), ("DELETE", "/versions/1"), ("PUT", "/promote"), ("POST", "/status")]
)
def test_a_method_that_does_not_exist_is_405(method, path):
    answer = ask(gateway(SmallSystem()), method, path)
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] in ("GET", "POST")
