"""`perennial run`: bring the system up, learn, and leave a report."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from actors.durable import Resumed
from actors.errors import ConfigError, InputUnusableError, LearningError
from actors.learning.lineage import OffsetRange, OffsetSet
from actors.learning.promotion import AfterRollback
from actors.predictions_file import partial_path
from actors.quarantine import FOLDER, refusals
from actors.sources.config import SourceKind
from actors.sources.journal_source import PARTITION as FEEDBACK
from actors.storage import shown
from cluster.branch import branched, newest_without
from cluster.config import PerennialConfig
from cluster.connect import RunFile, await_gone, cluster, refuse_taken_name
from cluster.outputs import check_apart, check_predictions, check_report, check_storage
from cluster.progress import Progress
from cluster.resume import start_from
from cluster.summary import print_summary, summary_of
from serve.config import tokens_of

if TYPE_CHECKING:
    from cluster.launch import Member

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    once: bool = False
    report: Path | None = None
    predictions: Path | None = None
    serve: bool = True
    fresh: bool = False
    force: bool = False


class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; a second one interrupts at once."""

    def __init__(self) -> None:
        self.is_set = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True

    def check(self) -> None:
        """Raises KeyboardInterrupt where the user wants to end: there is nothing yet to end gracefully."""
        if self.is_set:
            raise KeyboardInterrupt

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
    _check(config, options)
    try:
        resumed = start_from(config, fresh=options.fresh, force=options.force)
        if resumed is not None and resumed.manifest is not None:
            console.print(
                f"going on from version {resumed.manifest.version} in {shown(config.storage)}, which has learned "
                f"{resumed.states[-1].rows:,} rows (--fresh starts anew)"
            )
        report = learn(config, options, console, resumed)
    finally:
        if options.predictions is not None:  # there where the run has failed, and of no use
            partial_path(options.predictions).unlink(missing_ok=True)
    rows = report["rows"]
    refused = refusals(config.storage, rows["quarantined_by_reason"]) if rows["quarantined"] else ""
    if rows["read"] and rows["read"] == rows["quarantined"]:
        raise InputUnusableError(
            f"none of the {rows['read']:,} rows can be used: {refused}. They are in {shown(config.storage)}/{FOLDER}, with the "
            "reasons"
        )
    print_summary(console, summary_of(report, refused, options.report, options.predictions))
    return 0


def learn(
    config: PerennialConfig,
    options: RunOptions,
    console: Console,
    resumed: Resumed | None,
    until: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The report. `until`: ends where learning has come to these offsets, by partition."""
    run_file = RunFile(config.storage)
    hears = options.serve or config.stream.kind is SourceKind.JOURNAL or FEEDBACK in (until or {})
    with StopFlag().armed() as stop, cluster(config):
        import ray

        from cluster.launch import Launcher, await_first_rows, needs_first_rows, started
        from cluster.report import write_report
        from cluster.supervisor import Supervisor
        from serve.launch import Serving

        refuse_taken_name(config.name)
        launcher = Launcher(config, once=options.once, serves=options.serve, hears=hears)
        with ExitStack() as down:
            down.callback(run_file.remove)
            serving = joiner = None
            if options.serve:
                joiner = launcher.label_joiner()
                down.callback(ray.kill, joiner.handle)
                started(joiner)
                serving = Serving(config.serve, launcher.names, tokens_of(config.serve))
                down.callback(serving.stop)
                serving.start()
                if needs_first_rows(config) and not options.once and resumed is None:
                    serving.wait(stop.check)
                    console.print(f"waiting for the first labelled examples at {serving.url}/feedback")
                    await_first_rows(joiner, stop.check)
            system = launcher.launch(options.predictions, joiner, resumed)
            at_work = down.enter_context(_ending(system.learning))
            if serving is not None:
                serving.wait(stop.check)
                console.print(f"serving at {serving.url}, documented at {serving.url}/docs")
            run_file.write(ray.get_runtime_context().gcs_address)
            with Progress(console) as progress:
                while True:
                    show, should_stop = progress.update, lambda: stop.is_set
                    supervisor = Supervisor(config, system, show, should_stop, once=options.once, until=until)
                    supervisor.run()
                    not_durable = supervisor.commit()
                    report = supervisor.end()
                    if not supervisor.unwanted or not_durable is not None:
                        break
                    at_work.close()  # replicas go on answering meanwhile
                    await_gone(config.name, [member.name for member in system.learning])
                    system = launcher.launch(options.predictions, joiner, _restored(config, supervisor.unwanted))
                    at_work = down.enter_context(_ending(system.learning))
            if options.report is not None:
                _write(write_report, options.report, report)
            if not_durable is not None:
                raise not_durable
    return report


def _ending(members: Iterable["Member"]) -> ExitStack:
    """Ends them when it is closed."""
    import ray

    stack = ExitStack()
    for member in members:
        stack.callback(ray.kill, member.handle)
    return stack


def _restored(config: PerennialConfig, unwanted: Sequence[OffsetRange]) -> Resumed:
    """From before the first of these rows; a new head, beside the production that there is."""
    newest = start_from(config, fresh=False, force=False)
    assert newest is not None, "it has just become durable"
    excluded = OffsetSet((*newest.position.excluded, *unwanted)).ranges()
    base = newest_without(config, newest, excluded)
    logger.warning(
        "production is version %s again: the learner goes back to version %d, and learns again what came since without %d rows",
        newest.aliases.production, base.manifest.version if base.manifest else 0, sum(len(each) for each in unwanted),
    )  # fmt: skip
    return branched(base, newest, excluded, is_held=False)


def _check(config: PerennialConfig, options: RunOptions) -> None:
    """Raises ConfigError where the run could not end well, before anything is started."""
    stream = config.stream
    if options.once and stream.is_endless:
        kind = f"stream.kind: {stream.kind}{' with stream.follow' if stream.follow else ''}"
        raise ConfigError(
            f"--once ends where the stream does, and {kind} has no end: say where, as with --set stream.rows=20000, "
            "or leave out --once"
        )
    if options.predictions is not None and config.promotion.after_rollback is AfterRollback.RESTORE:
        raise ConfigError(
            "--predictions tells of every row once, and promotion.after_rollback: restore predicts rows again: leave one out"
        )
    check_outputs(config, options)


def check_outputs(config: PerennialConfig, options: RunOptions) -> None:
    """Raises ConfigError where something that is to be written could not be."""
    stream = config.stream
    if options.serve:
        tokens_of(config.serve)
    outputs = {"--report": options.report, "--predictions": options.predictions}
    if "://" not in config.storage:
        outputs["storage"] = Path(config.storage)
    if stream.kind is SourceKind.FILES and stream.path is not None:
        check_apart(stream.path, {option: path for option, path in outputs.items() if path is not None})
    check_storage(config.storage)
    if options.report is not None:
        check_report(options.report)
    if options.predictions is not None:
        check_predictions(options.predictions)


def _write(write_report: Callable[[Path, dict[str, Any]], Path], folder: Path, report: dict[str, Any]) -> None:
    try:
        write_report(folder, report)
    except OSError as error:
        raise LearningError(
            f"the report cannot be written to {folder}: {error}; make room there, or name another --report"
        ) from error
