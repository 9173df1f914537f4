"""Recommendation: user and item ids, new items all the time, tastes that shift.

python -m examples.recommendation
"""

import sys

from examples.command import main
from examples.scores import area_under_curve
from examples.study import Study, probability_of

STUDY = Study(
    name="recommendation",
    title="Recommendation: new items, other tastes",
    question="How often is something that gets clicked ranked above something that does not?",
    axis="ranked rightly (area under the ROC curve)",
    score=area_under_curve,
    told=probability_of(1),
    window_rows=8_000,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
