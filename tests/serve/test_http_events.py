"""GET /events: order, resumption, heartbeats, and an end when the client goes."""

import json
from itertools import islice

import httpx
import pytest
from fastapi import FastAPI
from http_calls import ask, gateway, listening, refusal
from small_system import SmallSystem
from waiting import wait_until

from serve.api.calls import add_calls
from serve.api.events import Events
from serve.config import ServeConfig


def eventful(count: int) -> SmallSystem:
    system = SmallSystem()
    for number in range(count):
        system.tell("version", version=number)
    return system


def read_events(lines, count: int) -> list[dict]:
    """The next `count` events of a stream, comments left out."""
    events: list[dict] = []
    event: dict = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line == "" and "data" in event:
            events.append({**event, "data": json.loads(event["data"])})
        event = {} if line == "" else {**event, name: value}
        if len(events) == count:
            return events
    raise AssertionError(f"the stream ended after {events}")


def test_a_client_gets_what_is_kept_and_then_what_happens():
    system = eventful(2)
    with listening(gateway(system)) as address, httpx.stream("GET", f"http://{address}/events", timeout=20) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = stream.iter_lines()
        first = read_events(lines, 2)
        assert [(e["id"], e["event"]) for e in first] == [("1", "version"), ("2", "version")]
        assert first[1]["data"] == {"id": 2, "time": 1_767_225_600.0, "kind": "version", "data": {"version": 1}}
        system.tell("drift", detector="adwin\nevent: forged", row=9)
        (drift,) = read_events(lines, 1)
        assert (drift["id"], drift["event"]) == ("3", "drift")
        assert drift["data"]["data"] == {"detector": "adwin\nevent: forged", "row": 9}


def test_a_client_that_comes_back_continues_after_its_last_event():
    with (
        listening(gateway(eventful(5))) as address,
        httpx.stream("GET", f"http://{address}/events", headers={"Last-Event-ID": "3"}, timeout=20) as stream,
    ):
        assert [e["id"] for e in read_events(stream.iter_lines(), 2)] == ["4", "5"]


def test_a_silent_stream_is_kept_open_by_comments():
    with (
        listening(gateway(SmallSystem(), timeout_s=0.05)) as address,
        httpx.stream("GET", f"http://{address}/events", timeout=20) as stream,
    ):
        heartbeats = (line for line in stream.iter_lines() if line.startswith(":"))
        assert list(islice(heartbeats, 3)) == [": heartbeat"] * 3


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 40])
def test_a_last_event_that_is_no_number_is_refused(last):
    answer = ask(gateway(SmallSystem()), "GET", "/events", headers={"Last-Event-ID": last})
    refusal(answer, 422, "wrong_value", "Last-Event-ID")


def test_a_stream_ends_when_the_system_cannot_be_reached_any_more():
    system = eventful(1)
    with (
        listening(gateway(system, timeout_s=0.05)) as address,
        httpx.stream("GET", f"http://{address}/events", timeout=20) as stream,
    ):
        lines = stream.iter_lines()
        read_events(lines, 1)
        system.is_stuck = True
        assert all(line.startswith(":") or not line for line in lines)  # and then it ends


def test_only_so_many_streams_are_open_and_a_closed_one_makes_room():
    config = ServeConfig(timeout_s=0.2)
    app = FastAPI()
    add_calls(app, Events(eventful(1), config, max_streams=1).calls(), config.timeout_s)

    def status(address: str) -> int:
        with httpx.stream("GET", f"http://{address}/events", timeout=20) as another:
            return another.status_code

    with listening(app) as address:
        with httpx.stream("GET", f"http://{address}/events", timeout=20) as stream:
            lines = stream.iter_lines()
            read_events(lines, 1)
            assert status(address) == 503
        wait_until(lambda: status(address) == 200, 20, "the stream's place to be free")
