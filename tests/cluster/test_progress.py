"""Live progress: what is shown, how often, and what `status --json` says."""

import io
import json
from dataclasses import replace

import pytest
from clocks import Clock
from rich.console import Console

from actors.learning.regime_memory import RegimeStatus
from actors.status import (
    ActorHealth,
    AliasStatus,
    DriftStatus,
    EvidenceStatus,
    PrequentialStatus,
    RunState,
    Snapshot,
    StreamStatus,
)
from cluster.progress import Progress, plain_line, render_status, sparkline

WHOLE = Snapshot(
    name="demo",
    state=RunState.LEARNING,
    seconds=3725.0,
    stream=StreamStatus("files", 12_345, 12_300, 12_200, 45, {"a.csv": 12_345}),
    rows_per_s=1234.5,
    prequential=PrequentialStatus("accuracy", 0.8123, 0.8442),
    aliases=AliasStatus(41, 44, 40),
    head=45,
    drift=DriftStatus(3, 9_876, "adwin"),
    evidence=EvidenceStatus(3.25, 512, "waiting", reasons=("so it stands", "it takes 12.0 ms")),
    regimes=RegimeStatus(count=2, rows=512, version=40, forgetting=0.125),
    actors=(
        ActorHealth("ingestor", "ingestor", 101, "node-1", True, 0, 0.25),
        ActorHealth("learner-0", "learner", None, None, False, 2, None),
    ),
)
BARE = Snapshot("demo", RunState.STARTING, 0.0, StreamStatus("synthetic"))


def shown(snapshot: Snapshot, scores: tuple[float, ...] = (), width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_status(snapshot, scores))
    return console.file.getvalue()


def test_the_status_document_has_the_keys_that_programs_rely_on():
    document = json.loads(json.dumps(WHOLE.to_json(), allow_nan=False))
    assert document["stream"] == {
        "kind": "files",
        "rows": 12_345,
        "tested": 12_300,
        "trained": 12_200,
        "quarantined": 45,
        "offsets": {"a.csv": 12_345},
    }
    assert document["state"] == "learning"
    assert document["aliases"] == {"production": 41, "shadow": 44, "previous": 40}
    assert document["evidence"].items() >= {"e_value": 3.25, "labels": 512, "decision": "waiting"}.items()
    assert {"name", "role", "pid", "node", "alive", "restarts"} <= set(document["actors"][0])
    assert {"seconds", "rows_per_s", "prequential", "head", "drift"} <= set(document)


def test_the_screen_tells_position_speed_scores_versions_drift_and_health():
    text = shown(WHOLE, (0.8, 0.82, 0.84))
    for fact in (
        "demo",
        "learning",
        "1:02:05",
        "12,345",
        "45 quarantined",
        "1,23",
        "0.8442",
        "0.8123",
        "v45",
        "v41",
        "v44",
        "3.25",
        "9,876",
        "learner-0",
        "down",
        "25%",
        "▁",
        "it takes 12.0 ms",
        "2 past ones remembered: v40 lies 0.1250 below",
    ):
        assert fact in text


def test_a_system_that_has_just_started_is_shown_without_inventing_numbers():
    text = shown(BARE)
    assert "starting" in text
    assert "0.0000" not in text
    assert "evidence" not in text


def test_the_screen_keeps_within_a_narrow_terminal():
    assert max(len(line) for line in shown(WHOLE, tuple(0.01 * i for i in range(48)), width=60).splitlines()) <= 60


def test_markup_in_names_is_shown_as_it_is():
    assert "[red]x[/red]" in shown(Snapshot("[red]x[/red]", RunState.IDLE, 1.0, StreamStatus("[bold]k")))


def test_of_many_actors_those_in_trouble_are_listed_first():
    crowd = tuple(ActorHealth(f"learner-{i}", "learner", i, "n", i != 150) for i in range(200))
    text = shown(Snapshot("demo", RunState.LEARNING, 1.0, StreamStatus("synthetic"), actors=crowd))
    assert "learner-150" in text
    assert "and 184 more" in text


def test_without_a_terminal_there_is_one_plain_line_every_five_seconds_and_a_last_one():
    clock, out = Clock(), io.StringIO()
    with Progress(Console(file=out, width=40), clock) as progress:
        for second in range(12):
            clock.now = float(second)
            progress.update(replace(WHOLE, rows_per_s=second))
    assert out.getvalue().splitlines() == [plain_line(replace(WHOLE, rows_per_s=second)) for second in (0, 5, 10, 11)]


def test_without_a_terminal_a_short_run_is_one_line():
    out = io.StringIO()
    with Progress(Console(file=out, width=40), Clock()) as progress:
        for state in (RunState.STOPPING, RunState.STOPPED):
            progress.update(replace(WHOLE, state=state))
    assert out.getvalue().splitlines() == [plain_line(replace(WHOLE, state=RunState.STOPPED))]


def test_without_a_terminal_a_stream_that_has_paused_is_told_of_once():
    clock, out = Clock(), io.StringIO()
    idle = replace(WHOLE, state=RunState.IDLE)
    with Progress(Console(file=out, width=40), clock) as progress:
        for second, snapshot in enumerate([WHOLE, idle, idle, idle, WHOLE, idle]):
            clock.now = 10.0 * second
            progress.update(replace(snapshot, seconds=clock.now))
    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [
        ["0:00", "learning"], ["0:10", "idle"], ["0:40", "learning"], ["0:50", "idle"],
    ]  # fmt: skip


def test_a_plain_line_says_what_matters_and_nothing_that_is_not_there():
    assert plain_line(BARE) == "0:00 starting | rows 0 | 0 rows/s | accuracy - now, - overall | head -"
    assert plain_line(WHOLE).endswith("quarantined 45 | drift 3 (last at row 9,876) | 1 of 2 actors down")


def test_actors_that_are_still_starting_are_not_called_down():
    starting = Snapshot(
        "demo", RunState.STARTING, 0.0, StreamStatus("files"), actors=(ActorHealth("i", "ingestor", None, None, False),)
    )
    assert "down" not in plain_line(starting)
    assert "down" not in shown(starting)


def test_on_a_terminal_the_screen_is_redrawn_at_most_four_times_a_second_and_ends_with_the_last_snapshot():
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=100, height=40, force_terminal=True, color_system=None)
    with Progress(console, clock) as progress:
        progress.update(BARE)
        drawn = out.getvalue()
        assert "starting" in drawn
        clock.now = 0.1
        progress.update(WHOLE)
        assert out.getvalue() == drawn
    assert "v45" in out.getvalue()


def test_an_interrupted_run_still_shows_where_it_was():
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(Console(file=out), Clock()) as progress:
        progress.update(BARE)
        progress.update(WHOLE)
        raise KeyboardInterrupt
    assert "head v45" in out.getvalue()


def test_a_sparkline_spans_its_scores_but_does_not_blow_up_noise():
    assert sparkline(()) == ""
    assert sparkline((0.0, 0.5, 1.0)) == "▁▅█"
    assert set(sparkline((0.8000, 0.8001, 0.7999, 0.8002))) <= set("▄▅")
