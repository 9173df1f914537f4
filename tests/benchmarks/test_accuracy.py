"""benchmarks/accuracy.py: the streams, the order in which peers learn, and the marks in its tables."""

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.csv
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STREAMS = (
    "sea hyperplane rbf_drift led mixed agrawal rare_heavy interaction one_decides runs missing stationary wide sine market "
    "many_classes waveform random_tree clicks word_pairs own_rules flights"
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks, which are scripts beside each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("name", STREAMS.split())
def test_a_generated_stream_is_the_same_again_and_has_what_it_says(benchmark, name, tmp_path):
    made = benchmark("drifting_streams")
    columns, again, other = made.make(name, 3000, 1), made.make(name, 3000, 1), made.make(name, 3000, 2)
    assert list(columns)[-1] == "class" and {len(value_N) for value_N in columns.values()} == {3000}
    assert len(set(columns["class"].tolist())) >= 2
    for column, value_N in columns.items():
        np.testing.assert_array_equal(value_N, again[column])
    assert any((columns[column] != other[column]).any() for column in columns)
    made.write_csv(columns, tmp_path / "stream.csv")
    table = pyarrow.csv.read_csv(tmp_path / "stream.csv")
    assert table.column_names == list(columns) and table.num_rows == 3000


def test_every_generated_stream_is_tested_here(benchmark):
    assert list(benchmark("drifting_streams").STREAMS) == STREAMS.split()


def test_streams_keep_their_promises(benchmark):
    make = benchmark("drifting_streams").make
    rare_N = make("rare_heavy", 20_000, 1)["class"]
    assert 0.01 < rare_N.mean() < 0.06
    runs_N = make("runs", 20_000, 1)["class"]
    assert (runs_N[1:] == runs_N[:-1]).mean() > 0.9
    values_ND = np.stack([value_N for name, value_N in make("missing", 20_000, 1).items() if name != "class"])
    assert 0.1 < np.isnan(values_ND).mean() < 0.2
    assert make("mixed", 100, 1)["word"].dtype.kind == "U"
    counts = Counter(make("many_classes", 20_000, 1)["class"].tolist())
    assert len(counts) == 20 and counts[0] > 20 * counts[19]


class _Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def predict(self, row: int) -> int:
        self.events.append(("predict", row))
        return 0

    def learn(self, row: int) -> None:
        self.events.append(("learn", row))


def test_a_peer_learns_a_row_once_its_label_is_visible(benchmark):
    peers, at_once, late = benchmark("prequential"), _Recorder(), _Recorder()
    right_N, _ = peers.run(at_once, np.array([0, 1, 0]), 0)
    assert right_N.tolist() == [True, False, True]
    assert at_once.events == [(what, row) for row in range(3) for what in ("predict", "learn")]
    peers.run(late, np.array([0, 1, 0]), 2)
    assert late.events == [("predict", 0), ("predict", 1), ("predict", 2), ("learn", 0)]


def test_no_change_answers_with_the_last_label_that_is_visible(benchmark, tmp_path):
    peers = benchmark("prequential")
    (tmp_path / "stream.csv").write_text("x,class\n" + "".join(f"0,{label}\n" for label in "aabbbba"))
    stream = peers.read(tmp_path / "stream.csv", None)
    assert peers.run(peers.NoChange(stream, 1), stream.y_N, 0)[0].tolist() == [False, True, False, True, True, True, False]
    assert peers.run(peers.NoChange(stream, 1), stream.y_N, 2)[0].tolist() == [False] * 3 + [False, False, True, False]


def test_peers_read_numbers_words_and_what_is_missing(benchmark, tmp_path):
    (tmp_path / "stream.csv").write_text('n,"a, word",class\n1.5,red,no\n,blue,yes\n-2,,no\n7,red,no\n')
    stream = benchmark("prequential").read(tmp_path / "stream.csv", 3)
    assert stream.names == ["n", "a, word"] and stream.words == {"a, word": ["blue", "red"]}
    np.testing.assert_array_equal(stream.x_ND, [[1.5, 1], [np.nan, 0], [-2, np.nan]])
    assert stream.classes == ["no", "yes"] and stream.y_N.tolist() == [0, 1, 0]


def test_the_table_marks_the_best_and_who_is_within_its_standard_error(benchmark, capsys):
    accuracy = benchmark("accuracy")
    results = [
        accuracy.Result("ahead", "s", 0, 10_000, 9_000, 2.0),
        accuracy.Result("beside", "s", 0, 10_000, 8_971),  # the best's standard error is 0.30
        accuracy.Result("behind", "s", 0, 10_000, 8_969),
        accuracy.Result("broken", "s", 0, error="it fell over"),
    ]
    accuracy.print_tables(results)
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line for line in lines[4:8]}
    assert cells["ahead"].endswith("90.00 ±0.30*") and cells["beside"].endswith("89.71 ±0.30=")
    assert cells["behind"].endswith("89.69 ±0.30 ") and cells["broken"].endswith("- ")
    assert any(line.split() == ["ahead", "5,000"] for line in lines)
    assert any(line.split()[:6] == ["beside", "0", "best", "1", "of", "1"] for line in lines)
    assert lines[-1] == "failed: s delay 0 broken: it fell over"


def test_the_table_says_what_sharding_costs(benchmark, capsys):
    accuracy = benchmark("accuracy")
    right = {("perennial 1", "s"): 90, ("perennial 4", "s"): 89, ("perennial 1", "t"): 70, ("perennial 4", "t"): 73}
    accuracy.print_tables([accuracy.Result(method, stream, 32, 100, n) for (method, stream), n in right.items()])
    assert "Runs with different shards differ by 3.00 points at most (t, delay 32)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--streams", "seaa", "--peers", "none"], "--streams seaa: give all, none, or some of sea, "),
        (["--delays", "-1", "--peers", "none"], "--delays -1: give whole numbers of at least 0"),
        (["--shards", "0", "--peers", "none"], "--shards 0: give whole numbers of at least 1"),
        (["--csv", "elec", "--peers", "none"], "--csv elec: give it as NAME=FILE.csv"),
        (
            ["--csv", "elec=there/is/none.csv:100", "--peers", "none"],
            "--csv elec=there/is/none.csv:100: there is no file there/is/none.csv",
        ),
        (["--peer-python", "there/is/none"], "there is no there/is/none: `make peers` makes it"),
    ],
)
def test_bad_usage_is_said_before_anything_runs(benchmark, arguments, said):
    with pytest.raises(SystemExit, match="^" + said.replace(".", r"\.")):
        benchmark("accuracy").main(arguments)


def test_the_child_process_says_what_failed_and_goes_on(benchmark, tmp_path):
    """With this environment's Python, which has no peers but the one that needs none."""
    accuracy = benchmark("accuracy")
    (tmp_path / "stream.csv").write_text("x,class\n" + "1,a\n2,a\n3,b\n" * 5)
    stream = accuracy.csv_stream(f"s={tmp_path / 'stream.csv'}:12")
    broken, fine = accuracy.peers(stream, [1], ["river_lr", "no_change"], Path(sys.executable), 1)
    assert broken.error.startswith("ModuleNotFoundError: No module named 'river'")
    assert (fine.method, fine.delay, fine.rows, fine.right, fine.error) == ("no_change", 1, 12, 3, None)
    gone = list(accuracy.peers(stream, [0], ["no_change", "no_such_method"], Path(sys.executable), 1))
    assert [result.error is None for result in gone] == [True, False]


@pytest.mark.ray
def test_one_process_learns_as_a_run_on_ray_does(benchmark, tmp_path):
    """So the CPU seconds measured there are those of the accuracy measured here."""
    accuracy = benchmark("accuracy")
    stream = accuracy.generated_stream("missing", tmp_path, 2000, 1)
    alone, run = (act(stream, 32, 2, 1, []) for act in (accuracy.perennial_in_process, accuracy.perennial_run))
    assert alone.error is None and run.error is None
    assert alone.rows == run.rows == 2000 and alone.right == run.right > 0.3 * 2000
    assert alone.cpu_s > 0


def test_whoever_interrupts_it_gets_the_tables_of_what_ran(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), "--streams", "builtin_abrupt", "builtin_gradual"]
    command += ["--rows", "300", "--delays", *map(str, range(300)), "--peers", "none", "--shards", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None and running.stdout is not None
        assert "builtin_abrupt delay 0 in process 1: " in running.stderr.readline()
        running.terminate()
        running.stderr.read()
        said = running.stdout.read()
    assert running.returncode == 1
    assert (
        "labels 0 rows late" in said
        and "labels 299 rows late" not in said
        and said.endswith("interrupted: the rest was not run\n")
    )


def test_what_it_measures_is_written_down_and_printed_as_tables(benchmark, tmp_path, capsys):
    command = ["--streams", "builtin_new_class", "--rows", "700", "--delays", "0", "32", "--peers", "none", "--shards", "none"]
    benchmark("accuracy").main([*command, "--json", str(tmp_path / "results.jsonl")])
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(r["method"], r["delay"], r["rows"]) for r in results] == [("in process 1", 0, 700), ("in process 1", 32, 700)]
    said = capsys.readouterr().out
    assert "labels 32 rows late" in said and "Rows per CPU-second" in said
