"""`python -m examples.NAME`: learns the stream with the real system, then sets it beside the frozen model.

--out DIR     where everything is left (default out/NAME)
--set a.b=c   overrides a key of examples/NAME.yaml, as `perennial run` does
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from actors.errors import PerennialError
from cluster.cli import main as perennial
from cluster.config import load_config
from examples.frozen import frozen
from examples.picture import draw
from examples.study import Study, Told, curve

FOLDER = Path(__file__).parent


def main(study: Study, arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{study.name}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out") / study.name)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args(arguments)
    out: Path = options.out
    overrides = [f"storage={out / 'storage'}", *options.overrides]
    settings = [word for override in overrides for word in ("--set", override)]
    code = perennial(
        [
            "run", "--config", str(FOLDER / f"{study.name}.yaml"), "--once", "--no-serve", "--fresh", "--force",
            "--report", str(out), "--predictions", str(out / "predictions.parquet"), *settings,
        ]
    )  # fmt: skip
    if code:
        return code
    try:
        compare(study, out, overrides)
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def compare(study: Study, out: Path, overrides: Sequence[str]) -> None:
    """Writes comparison.json and comparison.png into `out`, where a run has left its predictions and versions."""
    config = load_config(FOLDER / f"{study.name}.yaml", overrides)
    rows = pq.read_table(out / "predictions.parquet").sort_by("row")
    live = Told(rows["prediction"].to_pylist(), rows["confidence"].fill_null(0).to_numpy())
    learned, still, label_N = frozen(config)
    true_N = label_N if study.truth is None else study.truth(config, len(label_N))
    frozen_from = learned + config.stream.label_delay_rows
    live_curve = curve(study, study.told(live), true_N)
    still_curve = curve(study, study.told(still), true_N, frozen_from)
    after = slice(frozen_from, None)
    scores = {
        name: study.score(study.told(told)[after], true_N[after]) for name, told in (("perennial", live), ("frozen", still))
    }
    document = {
        "name": study.name,
        "score": study.axis,
        "higher_is_better": study.higher_is_better,
        "rows": len(label_N),
        "frozen_after_rows": learned,
        "after_the_freeze": scores,
        "window_rows": study.window_rows,
        "curves": {
            name: [[int(row), _number(value)] for row, value in zip(c.row_W, c.value_W, strict=True)]
            for name, c in (("perennial", live_curve), ("frozen", still_curve))
        },
    }
    (out / "comparison.json").write_text(json.dumps(document, indent=1) + "\n")
    changes = range(config.stream.synthetic.drift_every_rows, len(label_N), config.stream.synthetic.drift_every_rows)
    (out / "comparison.png").write_bytes(draw(study, live_curve, still_curve, scores, frozen_from, list(changes)))
    shown = {name: study.shown(value) for name, value in scores.items()}
    print(f"{study.axis}, after row {frozen_from:,}: Perennial {shown['perennial']}, frozen {shown['frozen']}")
    print(f"{out / 'comparison.png'}, {out / 'report.html'}")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
