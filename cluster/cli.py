"""The command line: `perennial`, or `python -m cluster`.

What is slow to import (ray, torch) is imported by the command that needs it, so that the others answer at once.
Exit codes: 0 done, 1 failed while running, 2 bad usage or configuration, 3 the input is unusable.
"""

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from cluster.config import PerennialConfig

DEFAULT_CONFIG = Path("ray_config.yaml")
DEFAULT_DASHBOARD = "http://127.0.0.1:8265"
STOP_TIMEOUT_S = 60.0
SCREEN_WIDTH = 100
OUR_PACKAGES = ("actors", "serve", "cluster")  # what --debug makes talk; the libraries stay quiet
INTERRUPTED = 130  # as shells count a command that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; everything that goes wrong ends as one message on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parse(given)
        code = _run_command(options)
        sys.stdout.flush()
        return code
    except SystemExit as ended:  # argparse: --help ends with 0, bad usage with 2
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`perennial config | head`); what is left goes nowhere, or Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if given[:1] == ["run"] else 0


def parse(given: Sequence[str]) -> argparse.Namespace:
    """The options of a command line. What follows `--` is the command that `submit` hands to the cluster."""
    split = list(given).index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:split])
    entrypoint = list(given[split + 1 :])
    if options.command == "submit":
        if not entrypoint:
            _parser().error("submit: nothing to submit; put the command after --, for example: perennial submit -- run")
        options.entrypoint, options.submitted = entrypoint, parse(entrypoint)
        if options.submitted.command == "submit":
            _parser().error("submit: a job cannot be submitted by a job; put run after --")
    elif entrypoint:
        _parser().error(f"{options.command}: takes nothing after --, got {' '.join(entrypoint)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="perennial",
        description="Learns from a stream without end: every row is predicted first, scored, and then learned.",
        epilog="Exit codes: 0 done, 1 failed while running, 2 bad usage or configuration, 3 the input is unusable.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        made.set_defaults(act=act)
        made.add_argument("--debug", action="store_true", help="log in detail, and show the traceback of an unexpected error")
        return made

    run = command("run", "Bring the system up and learn from the stream until Ctrl-C; with --once, until it ends.", _run)
    _configuration(run)
    run.add_argument("--address", metavar="local|auto|HOST:PORT", help="the Ray cluster, instead of ray.address")
    run.add_argument("--once", action="store_true", help="end when the stream is exhausted, instead of waiting for more")
    run.add_argument("--report", type=Path, metavar="DIR", help="write report.json, report.html and plots here at the end")
    run.add_argument("--predictions", type=Path, metavar="FILE.parquet", help="write every prediction, made before its label")
    start = run.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the newest version in storage, if any (the default)")
    start.add_argument("--fresh", action="store_true", help="start anew; refused where storage holds versions")
    run.add_argument("--force", action="store_true", help="with --fresh: delete the versions that storage holds")
    run.add_argument("--no-serve", dest="serve", action="store_false", help="learn only, answer no predictions over HTTP")

    submit = command("submit", "Run a command, such as run, as a job on a Ray cluster: perennial submit -- run ...", _submit)
    submit.usage = "perennial submit [-h] [--debug] [--address URL] [--working-dir DIR] [--no-wait] -- COMMAND ..."
    submit.add_argument("--address", default=DEFAULT_DASHBOARD, metavar="URL", help="the cluster's dashboard (%(default)s)")
    submit.add_argument("--working-dir", type=Path, default=Path("."), metavar="DIR", help="folder to send along (%(default)s)")
    submit.add_argument("--no-wait", dest="wait", action="store_false", help="do not follow the job, end once it is submitted")

    status = command("status", "Show how a running system fares: stream, scores, versions, drift, actors.", _status)
    _configuration(status)
    _cluster_address(status)
    status.add_argument("--json", action="store_true", help="print one JSON document")

    stop = command("stop", "End a running system gracefully: what is learned is kept, then everything is taken down.", _stop)
    _configuration(stop)
    _cluster_address(stop)
    stop.add_argument(
        "--timeout", type=_seconds, default=STOP_TIMEOUT_S, metavar="SECONDS", help="fail if it takes longer (%(default)g)"
    )

    log = command("log", "List the durable versions, newest first, and which of them have a name.", _log)
    _configuration(log)
    log.add_argument("--newest", type=_count, default=20, metavar="N", help="how many (%(default)d)")
    log.add_argument("--json", action="store_true", help="print one JSON document")

    events = command("events", "List what has happened: moves of production, drift, restarts; of earlier runs, too.", _events)
    _configuration(events)
    events.add_argument("--newest", type=_count, default=20, metavar="N", help="how many (%(default)d)")
    events.add_argument("--kind", dest="kinds", action="append", default=[], metavar="KIND", help="only these; may be repeated")
    events.add_argument("--json", action="store_true", help="print one JSON document")

    show = command("show", "Show one durable version: what it learned, how it scored, what it is made of.", _show)
    _configuration(show)
    show.add_argument("version", type=_count, metavar="V", help="number of the version")
    show.add_argument("--json", action="store_true", help="print one JSON document")

    diff = command("diff", "Show what changed between two durable versions: rows learned, scores, weights by tensor.", _diff)
    _configuration(diff)
    diff.add_argument("before", type=_count, metavar="A", help="number of a version")
    diff.add_argument("after", type=_count, metavar="B", help="number of another")
    diff.add_argument("--json", action="store_true", help="print one JSON document")

    bisect = command("bisect", "Find the durable version that made the score on a file worse.", _bisect)
    _configuration(bisect)
    bisect.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="labelled rows, with the columns of the stream"
    )
    bisect.add_argument("--threshold", type=float, metavar="X", help="a good version's score (half-way between the two ends)")
    bisect.add_argument("--good", type=_count, metavar="V", help="a version from before (the oldest durable one)")
    bisect.add_argument("--bad", type=_count, metavar="V", help="a version from after (the newest durable one)")
    bisect.add_argument("--json", action="store_true", help="print one JSON document")

    revert = command("revert", "Unlearn a range of rows: learn all the others again, as a new head beside production.", _revert)
    _configuration(revert)
    revert.add_argument("--address", metavar="local|auto|HOST:PORT", help="the Ray cluster, instead of ray.address")
    revert.add_argument("--source", required=True, metavar="S", help="the partition that the rows came from (`perennial show`)")
    revert.add_argument(
        "--offsets", type=_offsets, required=True, metavar="A:B", help="the rows from A up to, not including, B"
    )
    revert.add_argument("--report", type=Path, metavar="DIR", help="write report.json, report.html and plots of the rebuilding")
    revert.add_argument("--json", action="store_true", help="print one JSON document")

    promote = command("promote", "Let production answer with a version; what it was stays at hand as `previous`.", _promote)
    _configuration(promote)
    _cluster_address(promote)
    promote.add_argument("version", type=_version_or_head, metavar="V|head", help="number of the version, or the newest one")
    promote.add_argument("--reason", default="", help="kept with the move")

    rollback = command("rollback", "Let production answer with an earlier version, `previous` where none is named.", _rollback)
    _configuration(rollback)
    _cluster_address(rollback)
    rollback.add_argument("version", type=int, nargs="?", metavar="V", help="number of the version")
    rollback.add_argument("--reason", default="", help="kept with the move")

    export = command("export", "Write a durable version as one file that answers without this project.", _export)
    _configuration(export)
    export.add_argument(
        "version", type=_version_or_name, metavar="V", help="number of the version, or head, production, shadow, previous"
    )
    export.add_argument("--format", required=True, choices=("safetensors", "torchscript", "onnx"), help="what to write")
    export.add_argument("--out", type=Path, required=True, metavar="PATH", help="the file")

    config = command("config", "Print the configuration in force: every key with its meaning, type, unit and default.", _config)
    _configuration(config)
    shape = config.add_mutually_exclusive_group()
    shape.add_argument("--check", action="store_true", help="only validate")
    shape.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file ({DEFAULT_CONFIG} where there is one)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a key; may be repeated"
    )


def _cluster_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="auto|HOST:PORT", help="the Ray cluster, instead of ray.address")


def _version_or_head(text: str) -> int | None:
    """None for the head."""
    if text == "head":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted the number of a version, or head")
    return int(text)


def _version_or_name(text: str) -> int | str:
    """As durable versions know the aliases."""
    names = ("head", "production", "shadow", "previous")
    if text in names:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted the number of a version, or {', '.join(names)}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a number of seconds above 0")
    return seconds


def _offsets(text: str) -> tuple[int, int]:
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted A:B, such as 5000:7000, with A below B")
    return int(start), int(stop)


def _run_command(options: argparse.Namespace) -> int:
    from actors.errors import PerennialError
    from cluster.shadowing import refuse_shadowed_packages

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for package in OUR_PACKAGES if options.debug else ():
        logging.getLogger(package).setLevel(logging.DEBUG)
    try:
        refuse_shadowed_packages()
        act: Callable[[argparse.Namespace], int] = options.act
        return act(options)
    except PerennialError as error:
        if options.debug:
            traceback.print_exc()
        print(f"perennial: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        hint = "" if options.debug else "; --debug shows where it comes from"
        print(f"perennial: {options.command} failed unexpectedly: {type(error).__name__}: {error}{hint}", file=sys.stderr)
        return 1


def config_of(options: argparse.Namespace, folder: Path = Path(".")) -> "PerennialConfig":
    """The configuration that the options name; `folder` is the working directory of the command."""
    from cluster.config import load_config

    default = folder / DEFAULT_CONFIG
    path = folder / options.config if options.config else default if default.is_file() else None
    return load_config(path, [*options.overrides, *_address_overrides(options)])


def _address_overrides(options: argparse.Namespace) -> list[str]:
    address = getattr(options, "address", None)
    return [f"ray.address={json.dumps(address)}"] if address else []


def _run(options: argparse.Namespace) -> int:
    config = config_of(options)
    from cluster.run import RunOptions, run

    paths = {"report": options.report, "predictions": options.predictions}
    return run(config, RunOptions(once=options.once, serve=options.serve, fresh=options.fresh, force=options.force, **paths))


def _submit(options: argparse.Namespace) -> int:
    from cluster.connect import use_token_if_there_is_one
    from cluster.submit import Submission, submit, warn_of_what_stays_behind

    use_token_if_there_is_one()  # before anything imports ray
    folder = options.working_dir
    if hasattr(options.submitted, "overrides"):
        warn_of_what_stays_behind(folder, options.submitted, config_of(options.submitted, folder))
    return submit(Submission(options.address, folder, tuple(options.entrypoint)), wait=options.wait)


def _status(options: argparse.Namespace) -> int:
    config = config_of(options)
    from cluster.connect import fetch_status

    snapshot = fetch_status(config.ray.address, config)
    if options.json:
        print(json.dumps(snapshot.to_json()))
        return 0
    from cluster.progress import render_status

    _console().print(render_status(snapshot))
    return 0


def _stop(options: argparse.Namespace) -> int:
    config = config_of(options)
    from cluster.connect import request_stop

    request_stop(config.ray.address, config, options.timeout)
    print(f"{config.name} has stopped")
    return 0


def _log(options: argparse.Namespace) -> int:
    from cluster.history import log, print_log

    return _tell(options, log(config_of(options), options.newest), print_log)


def _events(options: argparse.Namespace) -> int:
    from cluster.history import events, print_events

    return _tell(options, events(config_of(options), options.newest, options.kinds), print_events)


def _show(options: argparse.Namespace) -> int:
    from cluster.history import print_version, show

    return _tell(options, show(config_of(options), options.version), print_version)


def _diff(options: argparse.Namespace) -> int:
    from cluster.history import diff, print_diff

    return _tell(options, diff(config_of(options), options.before, options.after), print_diff)


def _bisect(options: argparse.Namespace) -> int:
    from cluster.bisection import bisect, print_bisection

    found = bisect(config_of(options), options.data, options.threshold, options.good, options.bad)
    return _tell(options, found, print_bisection)


def _revert(options: argparse.Namespace) -> int:
    config = config_of(options)
    from actors.learning.lineage import OffsetRange
    from cluster.reversion import print_reversion, revert

    found = revert(config, OffsetRange(options.source, *options.offsets), options.report)
    return _tell(options, found, print_reversion)


def _tell(options: argparse.Namespace, document: Any, show: "Callable[[Console, Any], None]") -> int:
    if options.json:
        print(json.dumps(document))
    else:
        show(_console(), document)
    return 0


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=SCREEN_WIDTH)  # a file or a pipe has no width of its own


def _promote(options: argparse.Namespace) -> int:
    return _move("promote", options)


def _rollback(options: argparse.Namespace) -> int:
    return _move("rollback", options)


def _move(method: str, options: argparse.Namespace) -> int:
    config = config_of(options)
    from cluster.connect import move_production

    moved = move_production(config.ray.address, config, method, options.version, options.reason)
    before = "" if moved.previous is None else f"; before it was version {moved.previous}"
    print(f"production is version {moved.production}, on every replica within {moved.effective_ms:.0f} ms{before}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from cluster.export import export

    made = export(config_of(options), options.version, options.format, options.out)
    features = f"{made.inputs} encoded features to {made.outputs} outputs"
    print(f"version {made.version} is in {made.path}: {features}, {made.nbytes:,} bytes")
    return 0


def _config(options: argparse.Namespace) -> int:
    from cluster.config import digest, render_config

    config = config_of(options)
    if options.check:
        print(f"the configuration is valid, digest {digest(config)}")
    elif options.json:
        print(json.dumps(config.model_dump(mode="json"), indent=2))
    else:
        print(render_config(config), end="")
    return 0


if __name__ == "__main__":
    sys.exit("perennial: run `perennial` or `python -m cluster`; cluster/cli.py as a script puts cluster/ on the import path")
