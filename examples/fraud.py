"""Card fraud: one payment in two hundred, labels 2,000 rows late, and tactics that change.

python -m examples.fraud
"""

import sys

from examples.command import main
from examples.scores import caught
from examples.study import Study, probability_of

STUDY = Study(
    name="fraud",
    title="Card fraud: the tactics change",
    question="How much of the fraud is caught when the 1 % of payments that look worst are held back?",
    axis="fraud caught at 1 % alerts",
    score=caught(0.01),
    told=probability_of(1),
    window_rows=10_000,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
