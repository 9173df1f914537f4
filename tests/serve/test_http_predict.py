"""POST /predict, in the gateway and inside a replica."""

import logging
from http.client import HTTPConnection

import pytest
from http_calls import ask, gateway, listening, post, refusal
from small_system import SmallSystem

from serve.api.predict_app import build_predict_app
from serve.config import ServeConfig
from serve.interfaces import RequestError

GOOD = {"age": 41, "amount": 12.5, "country": "DE"}


def test_one_instance_is_answered_under_its_own_request_id():
    answer = post(gateway(SmallSystem()), "/predict", {"features": GOOD, "request_id": "order 7, é"})
    assert answer.status_code == 200
    assert answer.json() == {
        "request_id": "order 7, é",
        "prediction": "fraud",
        "probabilities": {"fraud": 0.75, "genuine": 0.25},
        "version": 1,
    }


def test_a_request_id_is_made_where_none_is_sent_and_feedback_finds_it():
    system = SmallSystem()
    made = post(gateway(system), "/predict", {"features": GOOD}).json()["request_id"]
    assert len(made) == 32 and made in system.requests
    told = post(gateway(system), "/feedback", {"request_id": made, "label": "fraud"})
    assert told.json() == {"accepted": 1, "duplicate": 0, "unknown": 0}


def test_many_instances_are_answered_in_order_each_under_an_id_of_its_own():
    amounts = [5, 50, None, 10.1]
    answer = post(gateway(SmallSystem()), "/predict", {"instances": [{**GOOD, "amount": amount} for amount in amounts]})
    predictions = answer.json()["predictions"]
    assert [p["prediction"] for p in predictions] == ["genuine", "fraud", "genuine", "fraud"]
    assert len({p["request_id"] for p in predictions}) == 4


MALFORMED = {
    "empty": (b"", 422, "invalid_json", None),
    "no JSON": (b"age=41", 422, "invalid_json", None),
    "cut short": (b'{"features": {"age": 41', 422, "invalid_json", None),
    "two documents": (b"{}{}", 422, "invalid_json", None),
    "bad UTF-8": (b'{"features": {"country": "\xff"}}', 422, "invalid_json", None),
    "UTF-16": ('{"features": {}}'.encode("utf-16"), 422, "invalid_json", None),
    "byte order mark": (b"\xef\xbb\xbf{}", 422, "invalid_json", None),
    "NaN": (b'{"features": {"age": NaN}}', 422, "invalid_json", None),
    "infinity": (b'{"features": {"age": Infinity}}', 422, "invalid_json", None),
    "minus infinity": (b'{"features": {"age": -Infinity}}', 422, "invalid_json", None),
    "beyond float64": (b'{"features": {"age": 1e999}}', 422, "invalid_json", None),
    "huge integer": (b'{"features": {"age": ' + b"9" * 400 + b"}}", 422, "invalid_json", None),
    "endless integer": (b'{"features": {"age": ' + b"9" * 9_000 + b"}}", 422, "invalid_json", None),
    "lone surrogate": (rb'{"features": {"country": "\ud800"}}', 422, "invalid_json", None),
    "lone surrogate as a name": (rb'{"features": {"\uDFFF": 1}}', 422, "invalid_json", None),
    "nested too deep": (b"[" * 100_000, 422, "invalid_json", None),
    "objects nested too deep": (b'{"features":' * 10_000 + b"1" + b"}" * 10_000, 422, "invalid_json", None),
    "deep feature": (b'{"features": {"age": ' + b"[" * 400 + b"]" * 400 + b"}}", 422, "wrong_type", "features.age[0]"),
    "a list": (b"[]", 422, "wrong_type", None),
    "a string": (b'"features"', 422, "wrong_type", None),
    "null": (b"null", 422, "wrong_type", None),
    "nothing in it": (b"{}", 422, "missing_field", "features"),
    "only an id": (b'{"request_id": "a"}', 422, "missing_field", "features"),
    "unknown field": (b'{"features": {}, "feature": {}}', 422, "unknown_field", "feature"),
    "features and instances": (b'{"features": {}, "instances": [{}]}', 422, "unknown_field", "features"),
    "an id for several": (b'{"instances": [{}], "request_id": "a"}', 422, "unknown_field", "request_id"),
    "features as a list": (b'{"features": [41]}', 422, "wrong_type", "features"),
    "features null": (b'{"features": null}', 422, "wrong_type", "features"),
    "instances as an object": (b'{"instances": {}}', 422, "wrong_type", "instances"),
    "no instances": (b'{"instances": []}', 422, "wrong_value", "instances"),
    "an instance as a number": (b'{"instances": [{}, 3]}', 422, "wrong_type", "instances[1]"),
    "too many instances": (b'{"instances": [{},{},{},{},{}]}', 413, "too_many", "instances"),
    "id as a number": (b'{"features": {}, "request_id": 7}', 422, "wrong_type", "request_id"),
    "id null": (b'{"features": {}, "request_id": null}', 422, "wrong_type", "request_id"),
    "id empty": (b'{"features": {}, "request_id": ""}', 422, "wrong_value", "request_id"),
    "id too long": (b'{"features": {}, "request_id": "' + b"a" * 201 + b'"}', 422, "wrong_value", "request_id"),
    "id unprintable": (b'{"features": {}, "request_id": "a\\nb"}', 422, "wrong_value", "request_id"),
    "feature as an object": (b'{"features": {"age": {"years": 41}}}', 422, "wrong_type", "features.age"),
    "feature of a wrong type": (
        b'{"features": {"age": "old", "amount": 1, "country": "DE"}}',
        422,
        "wrong_type",
        "features.age",
    ),
    "feature missing": (b'{"features": {"age": 41, "amount": 1}}', 422, "missing_field", "features.country"),
    "feature unknown": (b'{"features": {"age": 41, "shoe.size": 1}}', 422, "unknown_field", "features.shoe.size"),
    "list in a vector": (b'{"instances": [{"age": [1, [2]]}]}', 422, "wrong_type", "instances[0].age[1]"),
    "third instance": (
        b'{"instances": [{"age":1,"amount":1,"country":"a"}, {"age":1,"amount":1,"country":"a"}, {"age":true,"amount":"x"}]}',
        422,
        "wrong_type",
        "instances[2].amount",
    ),
}


@pytest.mark.parametrize("body, status, code, field", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_refused_and_what_is_wrong_named(body, status, code, field):
    message = refusal(ask(gateway(SmallSystem(), max_instances=4), "POST", "/predict", content=body), status, code, field)
    assert message and len(message) < 1_000


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
@pytest.mark.parametrize("root_path", ["", "/predict", "/behind/predict"])
def test_a_replica_answers_with_and_without_a_router_in_front(path, root_path):
    inner = build_predict_app(SmallSystem(), ServeConfig())

    async def routed(scope, receive, send):
        await inner(
            {**scope, "path": root_path.removesuffix("/predict") + scope["path"], "root_path": root_path}, receive, send
        )

    assert post(routed, path, {"features": GOOD}).json()["prediction"] == "fraud"
    refusal(ask(routed, "GET", path), 405, "method_not_allowed")
    assert ask(routed, "GET", path).headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/status", "/predict/more"])
def test_a_replica_has_nothing_but_predict(path):
    refusal(ask(build_predict_app(SmallSystem(), ServeConfig()), "GET", path), 404, "not_found")


def test_without_a_version_the_answer_is_503_and_says_when_to_come_back():
    answer = post(gateway(SmallSystem(production=None)), "/predict", {"features": GOOD})
    refusal(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "3"


def test_a_call_that_hangs_ends_at_the_deadline():
    message = refusal(post(gateway(SmallSystem(is_stuck=True), timeout_s=0.05), "/predict", {"features": GOOD}), 503, "timeout")
    assert "0.05 s" in message


def test_a_deadline_inside_the_system_is_503_too():
    refusal(post(gateway(SmallSystem(failure=TimeoutError())), "/predict", {"features": GOOD}), 503, "timeout")


def test_what_nobody_expected_is_500_and_only_the_log_tells_why(caplog):
    with caplog.at_level(logging.ERROR):
        answer = post(gateway(SmallSystem(failure=KeyError("secret"))), "/predict", {"features": GOOD})
    refusal(answer, 500, "internal")
    assert "secret" not in answer.text and "KeyError: 'secret'" in caplog.text


def test_an_error_of_the_system_passes_as_it_is():
    failure = RequestError(503, "overloaded", "200 requests are under way", retry_after_s=4)
    answer = post(gateway(SmallSystem(failure=failure)), "/predict", {"features": GOOD})
    assert refusal(answer, 503, "overloaded") == "200 requests are under way"
    assert answer.headers["retry-after"] == "4"


def large(bytes_: int) -> bytes:
    return b'{"features": {"age": 41, "amount": 1, "country": "' + b"x" * (bytes_ - 53) + b'"}}'


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not():
    app = gateway(SmallSystem(), max_request_bytes=2_000)
    assert len(large(2_000)) == 2_000
    assert ask(app, "POST", "/predict", content=large(2_000)).status_code == 200
    refusal(ask(app, "POST", "/predict", content=large(2_001)), 413, "too_large")


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_stream_without_a_length_ends_at_the_limit_and_the_server_goes_on(http):
    with listening(gateway(SmallSystem(), max_request_bytes=2_000), http) as address:
        connection = http_client(address)
        connection.putrequest("POST", "/predict")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for _ in range(5):  # never finished: the answer comes all the same
            connection.send(b"3e8\r\n" + b" " * 1_000 + b"\r\n")
        answer = connection.getresponse()
        assert answer.status == 413 and b"too_large" in answer.read()
        connection.close()
        again = http_client(address)
        again.request("POST", "/predict", large(500))
        assert again.getresponse().status == 200
        again.close()


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_stops_in_the_middle_of_its_body_gets_an_answer(http):
    with listening(gateway(SmallSystem(), timeout_s=0.2), http) as address:
        connection = http_client(address)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b'{"features"')
        answer = connection.getresponse()
        assert answer.status == 503 and b'"timeout"' in answer.read()
        connection.close()


def test_a_length_beyond_the_limit_is_refused_before_the_body_comes():
    with listening(gateway(SmallSystem())) as address:
        connection = http_client(address)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(10**30))
        connection.endheaders()
        assert connection.getresponse().status in (400, 413)
        connection.close()


def http_client(address):
    return HTTPConnection(address, timeout=20)
