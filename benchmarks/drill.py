"""A poison drill: 40 % of the labels are flipped for a while; what production loses, and what bisect and revert do about it.

    .venv/bin/python benchmarks/drill.py [--rows 60000] [--from-row 30000] [--poisoned-rows 5000] [--flipped 0.4] [--seed 1]

Runs a clean stream and a poisoned one with `promotion.policy` always and evidence. What production answered with at each
durable version is scored on clean rows that no run has seen. Then bisect looks for the version that made it worse, and revert
rebuilds without the poisoned rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from actors.durable import model_of, model_part
from actors.learning.model_kinds import make_reader
from actors.version_store import VersionStore
from cluster.config import load_config

ROOT = Path(__file__).resolve().parent.parent
FEATURES, EVERY = 10, 1000


def settings_of(folder: Path, stream: Path, policy: str) -> list[str]:
    return [
        f"storage={folder / 'storage'}", f"name={folder.name}", "stream.kind=files", f"stream.path={stream}",
        f"promotion.policy={policy}", f"versions.commit_rows={EVERY}", "versions.keep_last=1000", "ray.dashboard=false",
    ]  # fmt: skip


def perennial(command: str, settings: list[str], *words: str) -> str:
    overrides = [word for each in settings for word in ("--set", each)]
    done = subprocess.run(
        [sys.executable, "-m", "cluster", command, *overrides, *words], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"perennial {command}: {done.stderr}")
    return done.stdout


class Exam:
    """Clean rows that no run has seen."""

    def __init__(self, x_ND: np.ndarray, y_N: np.ndarray, settings: list[str]) -> None:
        config = load_config(None, settings)
        self._x_ND, self._y_N, self._reader = x_ND, y_N, make_reader(config.model, config.task, FEATURES, seed=config.seed)

    def score(self, state) -> float:
        self._reader.load(state)
        code_N = self._reader.predict(self._x_ND).code_N
        given_N = np.array([*state.classes, -1])[code_N]
        return float((given_N == self._y_N).mean())

    def curve(self, folder: Path) -> list[tuple[int, float]]:
        """Rows learned, and the score of what was production then, at each durable version."""
        store, found = VersionStore(str(folder / "storage")), []
        for version in store.versions():
            manifest = store.manifest(version)
            production = manifest.about["aliases"]["production"]
            part = "model" if production == version else model_part(production)
            found.append((manifest.about["rows"], self.score(model_of(store, manifest, part))))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--from-row", type=int, default=30_000)
    parser.add_argument("--poisoned-rows", type=int, default=5_000)
    parser.add_argument("--flipped", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    draw, first, last = np.random.default_rng(o.seed), o.from_row, o.from_row + o.poisoned_rows
    x_ND = draw.normal(size=(o.rows + 10_000, FEATURES)).astype(np.float32)
    clean_N = ((x_ND[:, 0] * x_ND[:, 1] + x_ND[:, 2] + 0.3 * draw.normal(size=len(x_ND))) > 0).astype(np.int64)
    poisoned_N = clean_N.copy()
    at = first + np.flatnonzero(draw.random(o.poisoned_rows) < o.flipped)
    poisoned_N[at] = 1 - poisoned_N[at]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for kind, y_N in (("clean", clean_N), ("poisoned", poisoned_N)):
            columns = {**{f"x{i}": x_ND[: o.rows, i] for i in range(FEATURES)}, "class": y_N[: o.rows]}
            (home / kind).mkdir()
            pq.write_table(pa.table(columns), home / kind / "stream.parquet", row_group_size=8192)
        exam = Exam(x_ND[o.rows :], clean_N[o.rows :], settings_of(home, home, "always"))
        holdout = {**{f"x{i}": x_ND[o.rows :, i] for i in range(FEATURES)}, "class": clean_N[o.rows :]}
        pq.write_table(pa.table(holdout), home / "holdout.parquet")
        curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
        print(
            f"{'stream':10}{'policy':10}{'before':>8}{'worst':>8}{'mean':>8}{'end':>8}   accuracy of production on clean rows"
        )
        for kind in ("clean", "poisoned"):
            for policy in ("always", "evidence"):
                folder = home / f"{kind}-{policy}"
                folder.mkdir()
                settings = settings_of(folder, home / kind / "stream.parquet", policy)
                perennial("run", settings, "--once", "--no-serve")
                curve = curves[kind, policy] = exam.curve(folder)
                before = [score for rows, score in curve if rows <= first][-1]
                after = [score for rows, score in curve if rows > first]
                print(f"{kind:10}{policy:10}{before:8.4f}{min(after):8.4f}{np.mean(after):8.4f}{after[-1]:8.4f}", flush=True)
        for policy in ("always", "evidence"):
            pairs = zip(curves["poisoned", policy], curves["clean", policy], strict=False)
            lost = [100 * (clean - poisoned) for (rows, poisoned), (_, clean) in pairs if rows > first]
            print(f"{policy}: production lost {max(lost):.1f} points at most, {np.mean(lost):.2f} in the mean since the poison")
        folder, data = home / "poisoned-always", str(home / "holdout.parquet")
        settings = settings_of(folder, home / "poisoned/stream.parquet", "always")
        worst = min((score, rows) for rows, score in curves["poisoned", "always"] if first < rows <= last + EVERY)[1]
        store = VersionStore(str(folder / "storage"))
        by_rows = {store.manifest(version).about["rows"]: version for version in store.versions()}
        good = by_rows[max(rows for rows in by_rows if rows <= first)]
        words = ("--data", data, "--good", str(good), "--bad", str(by_rows[worst]), "--json")
        found = json.loads(perennial("bisect", settings, *words))
        spans = found["lineage"]["trained"]
        print(
            f"bisect: version {found['version']}, which learned {spans}; {len(found['scores'])} of {found['candidates']} scored"
        )
        revert = ("--source", "stream.parquet", "--offsets", f"{first}:{last}", "--json")
        rebuilt = json.loads(perennial("revert", settings, *revert))
        score = exam.score(model_of(store, store.manifest(rebuilt["version"])))
        print(f"revert: version {rebuilt['version']}, {rebuilt['relearned']:,} rows learned again: {score:.4f}")


if __name__ == "__main__":
    main()
