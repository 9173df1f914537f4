"""Live progress on the terminal: one calm screen, or a plain line every five seconds where there is no terminal."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from actors.status import ActorHealth, RunState, Snapshot

PLAIN_LINE_EVERY_S = 5.0
SCREEN_EVERY_S = 0.25
HISTORY_EVERY_S = 1.0
HISTORY_POINTS = 48
NODE_CHARACTERS = 12  # of a node's id of 56; enough to tell nodes apart
MOST_ACTORS = 16  # listed one by one, those in trouble first
SMALLEST_SPAN = 0.02  # of the score; below it a sparkline would draw noise as mountains

_BARS = "▁▂▃▄▅▆▇█"
_STATE_STYLE = {
    RunState.STARTING: "yellow",
    RunState.LEARNING: "green",
    RunState.IDLE: "cyan",
    RunState.STOPPING: "yellow",
    RunState.STOPPED: "dim",
}


class Progress:
    """Shows the newest snapshot until the block ends; where it ends, the last one is shown once more.

    `clock` gives seconds and only paces the output: updates may come as often as they like.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        line_every_s: float = PLAIN_LINE_EVERY_S,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._line_every_s = line_every_s
        self._live: Live | None = None
        self._last: Snapshot | None = None
        self._shown: Snapshot | None = None
        self._scores: deque[float] = deque(maxlen=HISTORY_POINTS)
        self._next_score_s = self._next_output_s = clock()

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._last is not None and self._last is not self._shown:
            self._show(self._last)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, snapshot: Snapshot) -> None:
        now, self._last = self._clock(), snapshot
        if now >= self._next_score_s and snapshot.prequential.recent is not None:
            self._scores.append(snapshot.prequential.recent)
            self._next_score_s = now + HISTORY_EVERY_S
        if now >= self._next_output_s and (self._live is not None or self._is_news(snapshot)):
            self._next_output_s = now + (self._line_every_s if self._live is None else SCREEN_EVERY_S)
            self._show(snapshot)

    def _is_news(self, snapshot: Snapshot) -> bool:
        """Whether a log file wants a line of it: not of the last moments, nor again and again of a stream that has paused."""
        if snapshot.state is RunState.IDLE and self._shown is not None:
            return (self._shown.state, self._shown.stream) != (snapshot.state, snapshot.stream)
        return snapshot.state is not RunState.STOPPING

    def _show(self, snapshot: Snapshot) -> None:
        self._shown = snapshot
        if self._live is not None:
            self._live.update(render_status(snapshot, tuple(self._scores)), refresh=True)
        else:
            self._console.print(Text(plain_line(snapshot)), soft_wrap=True)


def plain_line(snapshot: Snapshot) -> str:
    """One line for a log file: where the stream is, how fast, how good, which version."""
    stream, score = snapshot.stream, snapshot.prequential
    parts = [
        f"{_duration(snapshot.seconds)} {snapshot.state}",
        f"rows {stream.rows:,}",
        f"{snapshot.rows_per_s:,.0f} rows/s",
        f"{score.metric} {_number(score.recent)} now, {_number(score.overall)} overall",
        f"head {_version(snapshot.head)}",
    ]
    if stream.quarantined:
        parts.append(f"quarantined {stream.quarantined:,}")
    if snapshot.drift.events:
        parts.append(f"drift {snapshot.drift.events:,} (last at row {_whole(snapshot.drift.last_row)})")
    dead = sum(not actor.alive and not _is_starting(actor) for actor in snapshot.actors)
    if dead:
        parts.append(f"{dead} of {len(snapshot.actors)} actors down")
    return " | ".join(parts)


def render_status(snapshot: Snapshot, scores: Sequence[float] = ()) -> RenderableType:
    """The screen of `perennial run` and `perennial status`; `scores` are recent scores, oldest first, for the sparkline."""
    parts: list[RenderableType] = [_facts(snapshot, scores)]
    if snapshot.actors:
        parts += [Rule(style="dim"), _actors(snapshot)]
    title = Text.assemble(
        (f" {snapshot.name} ", "bold"),
        (f"● {snapshot.state} ", _STATE_STYLE[snapshot.state]),
        (f"{_duration(snapshot.seconds)} ", "dim"),
    )
    return Panel(Group(*parts), title=title, title_align="left", border_style="dim", padding=(1, 2), width=92)


def sparkline(scores: Sequence[float]) -> str:
    """One bar a score, between the lowest and the highest shown (at least 0.02 apart)."""
    if not scores:
        return ""
    low, high = min(scores), max(scores)
    pad = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    low, span = low - pad, high - low + 2 * pad
    return "".join(_BARS[min(len(_BARS) - 1, int((score - low) / span * len(_BARS)))] for score in scores)


def _facts(snapshot: Snapshot, scores: Sequence[float]) -> Table:
    stream, score, drift, evidence = snapshot.stream, snapshot.prequential, snapshot.drift, snapshot.evidence
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=8)
    table.add_column()
    rows = Text.assemble((f"{stream.rows:,}", "bold"), (" read   ", "dim"), f"{stream.tested:,}", (" tested   ", "dim"))
    rows.append_text(Text.assemble(f"{stream.trained:,}", (" trained", "dim")))
    if stream.quarantined:
        rows.append_text(Text.assemble("   ", (f"{stream.quarantined:,} quarantined", "yellow")))
    table.add_row("stream", Text(f"{stream.kind}, next {_offsets(stream.offsets)}" if stream.offsets else stream.kind))
    table.add_row("rows", rows)
    table.add_row("speed", Text.assemble((f"{snapshot.rows_per_s:,.0f}", "bold"), (" rows/s", "dim")))
    now = Text.assemble((_number(score.recent), "bold"), (f" {score.metric} now   ", "dim"), _number(score.overall))
    table.add_row("score", Text.assemble(now, (" overall", "dim")))
    if scores:
        table.add_row("", Text(sparkline(scores), style="green"))
    aliases = snapshot.aliases
    versions = Text.assemble((_version(snapshot.head), "bold"), (" head", "dim"))
    for name, version in (("production", aliases.production), ("shadow", aliases.shadow), ("previous", aliases.previous)):
        if version is not None:
            versions.append_text(Text.assemble(f"   {_version(version)}", (f" {name}", "dim")))
    table.add_row("version", versions)
    if evidence.e_value is not None:
        case = f"e-value {evidence.e_value:,.3g} over {_whole(evidence.labels)} labels"
        table.add_row("evidence", Text(f"{case}: {evidence.decision}" if evidence.decision else case))
        for reason in evidence.reasons[1:]:  # the first says how the case stands
            table.add_row("", Text(reason, style="yellow"))
    table.add_row(
        "drift",
        Text(f"{drift.events:,} alarms, last at row {_whole(drift.last_row)} by {drift.last_detector}", style="yellow")
        if drift.events
        else Text("none", style="dim"),
    )
    past = snapshot.regimes
    if past.count:
        told = f"{past.count:,} past ones remembered"
        if past.forgetting is not None:
            told += f": {_version(past.version)} lies {past.forgetting:.4f} below the best on them"
        table.add_row("regimes", Text(told))
    update = snapshot.update
    if update.frozen or update.waiting_rows or update.updates:
        made = sum(update.updates.values())
        words = [f"{made:,} updates ({', '.join(update.policy)})"] if update.updates else []
        words += [f"{update.waiting_rows:,} rows wait"] if update.waiting_rows else []
        words += [f"nothing is learned: {update.frozen.replace('_', ' ')}"] if update.frozen else []
        table.add_row("learning", Text(", ".join(words), style="yellow" if update.frozen else ""))
    return table


def _actors(snapshot: Snapshot) -> Table:
    actors = snapshot.actors
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("actor", "role"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("pid", no_wrap=True)
    table.add_column("node", no_wrap=True, max_width=NODE_CHARACTERS)
    for heading in ("busy", "restarts"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    shown = (
        actors if len(actors) <= MOST_ACTORS else sorted(actors, key=lambda actor: (actor.alive, -actor.restarts))[:MOST_ACTORS]
    )
    for actor in shown:
        busy = "-" if actor.busy_fraction is None else f"{actor.busy_fraction:.0%}"
        restarts = Text(f"{actor.restarts:,}", style="yellow" if actor.restarts else "")
        gone = Text("● starting", style="yellow") if _is_starting(actor) else Text("● down", style="red")
        health = Text("● alive", style="green") if actor.alive else gone
        pid = "-" if actor.pid is None else str(actor.pid)
        table.add_row(
            Text(actor.name), Text(actor.role), pid, Text((actor.node or "-")[:NODE_CHARACTERS]), busy, restarts, health
        )
    if len(shown) < len(actors):
        table.add_row(Text(f"and {len(actors) - len(shown):,} more", style="dim"))
    return table


def _is_starting(actor: ActorHealth) -> bool:
    """Whether it has never been heard of."""
    return not actor.alive and actor.pid is None and not actor.restarts


def _offsets(offsets: Mapping[str, int]) -> str:
    pairs = list(offsets.items())
    shown = ", ".join(f"{partition}:{offset:,}" for partition, offset in pairs[:3])
    return shown + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _version(version: int | None) -> str:
    return "-" if version is None else f"v{version}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
