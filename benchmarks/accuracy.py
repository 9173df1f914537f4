"""Prequential accuracy and rows per CPU-second, beside what the field uses: same rows, same order, same label delay for all.

    make peers                        # once: River, CapyMOA (MOA) and Vowpal Wabbit in .venv-peers; needs Java 17
    .venv/bin/python benchmarks/accuracy.py [--csv NAME=FILE.csv[:ROWS] ...] [--streams all] [--delays 0 32 256]
        [--peers all] [--shards 1 2 4] [--in-process 1] [--rows 20000] [--seed 1] [--set KEY=VALUE ...]

Every row is predicted first, and learned once the label delay has passed. Perennial is run for real, by `python -m cluster run
--once --no-serve` with its default configuration, and read from report.json; the peers run row by row in a process of their
own (benchmarks/peers/prequential.py). CPU seconds are those of predicting and learning, without reading the file: of a run
they cannot be told apart, so Perennial's are measured with the same roles in one process (`--in-process`, by shards).

Streams are CSV files with the label in the last column, and generated ones: those of drifting_streams.py, and the built-in
stream's drifts (`builtin_abrupt` and so on). A table marks the best of each stream with `*` and who is within one standard
error of it with `=`. Nothing is printed that was not run; what failed is `-`, and says why below.
"""

import argparse
import csv
import json
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drifting_streams import LABEL, STREAMS, make, write_csv  # beside this file
from in_process import learn

from actors.learning.task import TaskKind
from actors.sources.config import StreamConfig
from actors.sources.synthetic import DriftKind, SyntheticSource

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("no_change", "vw_nn16", "river_lr", "river_hat", "moa_hat", "arf10", "srp10", "levbag10", "sam_knn")
BUILT_IN = {f"builtin_{kind}": kind for kind in DriftKind if kind is not DriftKind.NONE}
COLUMNS = 6  # of a table, so that it fits a terminal
TIMEOUT_S = 4 * 3600


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    path: Path
    label: str
    rows: int | None  # None: all


@dataclass(frozen=True, slots=True)
class Result:
    """`right` of `rows` predictions; `cpu_s` of predicting and learning where it was measured. `error`: why there is none."""

    method: str
    stream: str
    delay: int
    rows: int = 0
    right: int = 0
    cpu_s: float | None = None
    error: str | None = None

    @property
    def accuracy(self) -> float:
        return 100 * self.right / self.rows

    @property
    def standard_error(self) -> float:
        """Of an accuracy in %, rows taken as independent."""
        share = self.right / self.rows
        return 100 * math.sqrt(share * (1 - share) / self.rows)

    @property
    def rows_per_cpu_s(self) -> float | None:
        return self.rows / self.cpu_s if self.cpu_s else None

    def __str__(self) -> str:
        if self.error:
            return f"{self.stream} delay {self.delay} {self.method}: {self.error}"
        speed = f", {self.rows_per_cpu_s:,.0f} rows per CPU-second" if self.rows_per_cpu_s else ""
        return f"{self.stream} delay {self.delay} {self.method}: {self.accuracy:.2f} % of {self.rows:,} rows{speed}"


# --- streams


def csv_stream(text: str) -> Stream:
    """NAME=FILE.csv or NAME=FILE.csv:ROWS, the label in the last column."""
    name, _, place = text.partition("=")
    path, _, rows = place.rpartition(":") if place.rpartition(":")[2].isdigit() else (place, "", "")
    if not name or not path:
        raise SystemExit(f"--csv {text}: give it as NAME=FILE.csv or NAME=FILE.csv:ROWS")
    if not Path(path).is_file():
        raise SystemExit(f"--csv {text}: there is no file {path}")
    with open(path, encoding="utf-8") as file:
        label = next(csv.reader(file))[-1]
    return Stream(name, Path(path).absolute(), label, int(rows) if rows else None)


def generated_stream(name: str, folder: Path, rows: int, seed: int) -> Stream:
    path = folder / f"{name}.csv"
    if name in STREAMS:
        write_csv(make(name, rows, seed), path)
    else:
        made = {"drift": BUILT_IN[name], "drift_every_rows": max(100, rows // 5), "classes": 4}
        source = SyntheticSource(StreamConfig(rows=rows, synthetic=made), TaskKind.CLASSIFICATION, seed)
        pyarrow.csv.write_csv(pa.concat_tables([chunk.table for chunk in source.read({}) if chunk is not None]), path)
    return Stream(name, path, LABEL, None)


def classes_of(stream: Stream) -> list[str | int]:
    only = pyarrow.csv.ConvertOptions(include_columns=[stream.label])
    labels = pyarrow.csv.read_csv(stream.path, convert_options=only).column(0)
    return sorted(labels[: stream.rows].unique().to_pylist())


# --- methods


def peers(stream: Stream, delays: Sequence[int], methods: Sequence[str], python: Path, seed: int) -> Iterable[Result]:
    """Results as they come from the child process; a method that failed, or that it died over, is a result with an error."""
    missing = {(method, delay) for delay in delays for method in methods}
    command = [str(python), str(ROOT / "benchmarks" / "peers" / "prequential.py"), str(stream.path), "--seed", str(seed)]
    command += ["--methods", ",".join(methods), "--delays", ",".join(map(str, delays))]
    command += ["--rows", str(stream.rows)] if stream.rows else []
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert child.stdout is not None
        with child:
            try:
                for line in child.stdout:
                    if line.startswith("{"):
                        told = json.loads(line)
                        missing.discard((told["method"], told["delay"]))
                        yield Result(stream=stream.name, **told)
            except BaseException:  # nobody wants the rest
                child.terminate()
                raise
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
    for method, delay in sorted(missing):
        yield Result(method, stream.name, delay, error=f"the process ended with {child.returncode}: {last}")


def settings_of(stream: Stream, delay: int, shards: int, seed: int, overrides: Sequence[str]) -> list[str]:
    rows = [f"stream.rows={stream.rows}"] if stream.rows else []
    return [
        "stream.kind=files", f"stream.path={stream.path}", f"stream.label={stream.label}", f"stream.label_delay_rows={delay}",
        f"learners.shards={shards}", f"seed={seed}", *rows, *overrides,
    ]  # fmt: skip


def perennial_run(stream: Stream, delay: int, shards: int, seed: int, overrides: Sequence[str]) -> Result:
    """The whole system on Ray."""
    method = f"perennial {shards}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # An empty file as the configuration: the defaults of the code. More shards than cores take turns on them.
        (folder / "defaults.yaml").write_text("name: accuracy\n")
        settings = settings_of(stream, delay, shards, seed, overrides)
        settings += [f"storage={folder / 'storage'}", "ray.dashboard=false", f"ray.num_cpus={shards}"]
        command = [sys.executable, "-m", "cluster", "run", "--once", "--no-serve", "--report", str(folder / "report")]
        command += ["--config", str(folder / "defaults.yaml")]
        command += [word for setting in settings for word in ("--set", setting)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
            try:
                _, said = child.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                _end(child)
                return Result(method, stream.name, delay, error=f"it was not done after {TIMEOUT_S / 3600:g} hours")
            except KeyboardInterrupt:
                _end(child)
                raise
        if child.returncode:
            last = (said.strip().splitlines() or ["it said nothing"])[-1]
            return Result(method, stream.name, delay, error=f"perennial run ended with {child.returncode}: {last}")
        report = json.loads((folder / "report" / "report.json").read_text())
    rows = report["rows"]["tested"]
    if report["rows"]["quarantined"] or report["rows"]["lost"]:
        return Result(method, stream.name, delay, error=f"not all rows were learned: {report['rows']}")
    return Result(method, stream.name, delay, rows, round(report["prequential"]["accuracy"] * rows))


def _end(child: subprocess.Popen[str]) -> None:
    """As Ctrl-C would: it takes its Ray down with it."""
    child.terminate()
    try:
        child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()


def perennial_in_process(stream: Stream, delay: int, shards: int, seed: int, overrides: Sequence[str]) -> Result:
    try:
        learned = learn(settings_of(stream, delay, shards, seed, overrides))
    except Exception as error:  # one stream must not cost the others
        return Result(f"in process {shards}", stream.name, delay, error=f"{type(error).__name__}: {error}")
    return Result(f"in process {shards}", stream.name, delay, learned.rows, learned.right, learned.cpu_s)


# --- tables


def print_tables(results: Sequence[Result]) -> None:
    streams, methods = (list(dict.fromkeys(getattr(r, key) for r in results)) for key in ("stream", "method"))
    by_place = {(r.method, r.stream, r.delay): r for r in results if not r.error}
    for delay in sorted({r.delay for r in results}):
        for first in range(0, len(streams), COLUMNS):
            shown = streams[first : first + COLUMNS]
            print(f"\nAccuracy in % and its standard error, labels {delay} rows late\n")
            print(f"{'':14}" + "".join(f"{name[:16]:>18}" for name in shown))
            best = {s: _best(r for (_, at, d), r in by_place.items() if at == s and d == delay) for s in shown}
            for method in methods:
                cells = [_cell(by_place.get((method, s, delay)), best[s]) for s in shown]
                print(f"{method:14}" + "".join(f"{cell:>18}" for cell in cells))
    for first in range(0, len(streams), COLUMNS):
        shown = streams[first : first + COLUMNS]
        print("\nRows per CPU-second, predicted and learned, over all label delays\n")
        print(f"{'':14}" + "".join(f"{name[:16]:>18}" for name in shown))
        for method in methods:
            timed = [[r for r in by_place.values() if (r.method, r.stream) == (method, s) and r.cpu_s] for s in shown]
            if any(timed):
                print(f"{method:14}" + "".join(f"{_speed(each):>18}" for each in timed))
    _print_standing(methods, by_place)
    _print_cost_of_sharding(by_place)
    for failed in (r for r in results if r.error):
        print(f"\nfailed: {failed}")


def _best(results: Iterable[Result]) -> Result | None:
    return max(results, key=lambda r: r.accuracy, default=None)


def _mark(result: Result, best: Result) -> str:
    if result.accuracy == best.accuracy:
        return "*"
    return "=" if best.accuracy - result.accuracy <= best.standard_error else " "


def _cell(result: Result | None, best: Result | None) -> str:
    if result is None or best is None:
        return "- "
    return f"{result.accuracy:.2f} ±{result.standard_error:.2f}{_mark(result, best)}"


def _speed(results: Sequence[Result]) -> str:
    cpu_s = sum(r.cpu_s or 0.0 for r in results)
    return f"{sum(r.rows for r in results) / cpu_s:,.0f} " if cpu_s else "- "


def _print_standing(methods: Sequence[str], by_place: dict[tuple[str, str, int], Result]) -> None:
    """For each method: in how many columns it is first or within a standard error of the first, and its mean accuracy."""
    places = list(dict.fromkeys((s, d) for _, s, d in by_place))
    best = {place: _best(r for (_, s, d), r in by_place.items() if (s, d) == place) for place in places}
    print("\nColumns where it is the best, or within one standard error of it; mean accuracy over the columns it ran\n")
    for method in methods:
        ran = [(by_place[method, *place], best[place]) for place in places if (method, *place) in by_place]
        marks = [_mark(result, top) for result, top in ran if top is not None]
        if ran:
            mean = sum(result.accuracy for result, _ in ran) / len(ran)
            print(f"{method:14}{marks.count('*'):>4} best{len(marks) - marks.count(' '):>5} of {len(marks)}{mean:>10.2f} %")


def _print_cost_of_sharding(by_place: dict[tuple[str, str, int], Result]) -> None:
    """The most that any two runs differ that differ in their shards alone."""
    runs: dict[tuple[str, int], list[float]] = {}
    for (method, stream, delay), result in by_place.items():
        if method.startswith("perennial "):
            runs.setdefault((stream, delay), []).append(result.accuracy)
    spreads = {place: max(each) - min(each) for place, each in runs.items() if len(each) > 1}
    if spreads:
        stream, delay = max(spreads, key=spreads.__getitem__)
        print(f"\nRuns with different shards differ by {spreads[stream, delay]:.2f} points at most ({stream}, delay {delay})")


# --- command line


def chosen(given: Sequence[str], known: Iterable[str], option: str) -> list[str]:
    known = list(known)
    if given in (["all"], ["none"]):
        return known if given == ["all"] else []
    if unknown := [name for name in given if name not in known]:
        raise SystemExit(f"{option} {' '.join(unknown)}: give all, none, or some of {', '.join(known)}")
    return list(given)


def numbers(given: Sequence[str], option: str, least: int) -> list[int]:
    if given == ["none"]:
        return []
    if wrong := [text for text in given if not text.isdigit() or int(text) < least]:
        raise SystemExit(f"{option} {' '.join(wrong)}: give whole numbers of at least {least}, or none")
    return [int(text) for text in given]


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", nargs="*", default=[], metavar="NAME=FILE.csv[:ROWS]")
    parser.add_argument("--streams", nargs="*", help="generated ones: all (the default without --csv), none, or names")
    parser.add_argument("--rows", type=int, default=20_000, help="of each generated stream")
    parser.add_argument("--delays", nargs="*", default=["0", "32", "256"], help="in rows")
    parser.add_argument("--peers", nargs="*", default=["all"], help=f"all, none, or some of {', '.join(PEERS)}")
    parser.add_argument("--shards", nargs="*", default=["1", "2", "4"], help="runs of Perennial on Ray; none: no such run")
    parser.add_argument("--in-process", nargs="*", default=["1"], help="Perennial in one process, by shards; none: not at all")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="another configuration than the default one")
    parser.add_argument(
        "--name-classes", action="store_true", help="tell Perennial the classes beforehand, as the peers are told"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--json", type=Path, help="also write every result here, a line each")
    options = parser.parse_args(arguments)
    named = options.streams if options.streams is not None else ["none"] if options.csv else ["all"]
    options.streams = chosen(named, [*STREAMS, *BUILT_IN], "--streams")
    options.peers = chosen(options.peers, PEERS, "--peers")
    options.delays = numbers(options.delays, "--delays", 0)
    options.shards, options.in_process = numbers(options.shards, "--shards", 1), numbers(options.in_process, "--in-process", 1)
    if options.peers and not options.peer_python.exists():
        raise SystemExit(f"there is no {options.peer_python}: `make peers` makes it, --peers none goes without")
    return options


def results_of(options: argparse.Namespace, folder: Path) -> Iterable[Result]:
    files = [csv_stream(text) for text in options.csv]
    for stream in (*files, *(generated_stream(name, folder, options.rows, options.seed) for name in options.streams)):
        if options.peers:
            yield from peers(stream, options.delays, options.peers, options.peer_python, options.seed)
        overrides = [*options.set, f"task.classes={json.dumps(classes_of(stream))}"] if options.name_classes else options.set
        for delay in options.delays:
            for shards in options.in_process:
                yield perennial_in_process(stream, delay, shards, options.seed, overrides)
            for shards in options.shards:
                yield perennial_run(stream, delay, shards, options.seed, overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ctrl-C ends it with the tables of what has been run."""
    options = options_of(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[Result] = []
    is_done = False
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        for result in results_of(options, Path(folder)):
            results.append(result)
            print(result, file=sys.stderr, flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
        is_done = True
    print_tables(results)
    if not is_done:
        print("\ninterrupted: the rest was not run")
    return 0 if is_done and not any(result.error for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
