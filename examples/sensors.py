"""Sensors that age: a machine's load, told from readings that wander off, stick, and go silent.

python -m examples.sensors
"""

import sys

from examples.command import main
from examples.scores import mean_absolute_error
from examples.study import Study, as_told

STUDY = Study(
    name="sensors",
    title="Sensors: they age, fail and are replaced",
    question="How far off is the estimate of a machine's load? (Loads are about 100 ± 27.)",
    axis="mean absolute error",
    score=mean_absolute_error,
    told=as_told,
    window_rows=4_000,
    higher_is_better=False,
    as_percent=False,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
