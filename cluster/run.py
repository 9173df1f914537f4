"""`perennial run`: bring the system up, learn, and leave a report."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from actors.errors import InputUnusableError
from cluster.config import PerennialConfig
from cluster.connect import RunFile, cluster
from cluster.progress import Progress


@dataclass(frozen=True, slots=True)
class RunOptions:
    once: bool = False
    report: Path | None = None
    predictions: Path | None = None
    serve: bool = True


class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; a second one interrupts at once."""

    def __init__(self) -> None:
        self.is_set = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True

    @contextmanager
    def armed(self) -> Iterator["StopFlag"]:
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(config: PerennialConfig, options: RunOptions, console: Console | None = None) -> int:
    """Returns the exit code; raises PerennialError where the run cannot begin or go on."""
    console = console or Console(stderr=True)
    run_file = RunFile(config.storage)
    with StopFlag().armed() as stop, cluster(config):
        import ray

        from cluster.launch import Launcher
        from cluster.report import write_report
        from cluster.supervisor import Supervisor

        launcher = Launcher(config)
        system = launcher.launch(options.predictions)
        run_file.write(ray.get_runtime_context().gcs_address)
        try:
            with Progress(console) as progress:
                supervisor = Supervisor(config, launcher, system, progress.update, lambda: stop.is_set)
                supervisor.run()
                report = supervisor.end()
            if options.report is not None:
                write_report(options.report, report)
        finally:
            run_file.remove()
            for member in system.members:
                ray.kill(member.handle)
    console.print(_summary(report, options))
    if report["rows"]["read"] and not report["rows"]["trained"] and report["rows"]["quarantined"]:
        raise InputUnusableError(f"no row could be learned: {report['rows']['quarantined_by_reason']}")
    return 0


def _summary(report: dict, options: RunOptions) -> str:  # type: ignore[type-arg]
    rows, scores = report["rows"], report["prequential"]
    score = next((f"{name} {scores[name]:.4f}" for name in ("accuracy", "mae") if scores.get(name) is not None), "no score yet")
    lines = [
        f"{rows['read']:,} rows read, {rows['tested']:,} predicted, {rows['trained']:,} learned, "
        f"{rows['quarantined']:,} quarantined, {rows['lost']:,} lost, {rows['duplicated']:,} twice; "
        f"{report['rows_per_s']:,.0f} rows/s",
        f"prequential {score}; head version {report['versions']['head']}; {len(report['drift'])} drift alarms",
    ]
    if options.report is not None:
        lines.append(f"report in {options.report}/report.html")
    return "\n".join(lines)
