"""From the rows that are to lie between two false alarms to the detectors' thresholds.

`benchmarks/detectors.py` simulates the rates. They are meant for errors that are independent of each other; where one error
makes the next more likely, alarms come more often.
"""

from actors.learning.drift.adwin import AdwinConfig
from actors.learning.drift.config import DetectorConfig
from actors.learning.drift.ddm import DdmConfig
from actors.learning.drift.ks_input import KsInputConfig
from actors.learning.drift.psi_input import PsiInputConfig

# ADWIN's delta bounds the chance at a look from far above: with a look every 32 rows and errors of 5 to 50 %, a false alarm
# comes once in 5,000 / delta rows or more seldom (simulated, delta 0.02 to 0.5). The published 0.002 is good for 2 million.
_ADWIN_ROWS = 4_000.0
_ADWIN_CLOCK = 32
_LARGEST_DELTA = 0.3
# DDM's false alarms come early, from a lowest error rate that was luck; it hardly has any once it has settled.
_DDM_WARM_UP_ROWS = 300
_DDM_THRESHOLDS = ((200_000.0, 3.0), (1_000_000.0, 3.5), (float("inf"), 4.0))


def within_budget(config: DetectorConfig, rows: float) -> DetectorConfig:
    """The config with what was not set by hand set so that `rows` lie between two false alarms in the mean, or more.

    Page-Hinkley and `window_mean` derive their thresholds from the spread of what they watch, and a detector of River's keeps
    its own: they come back as they are.
    """
    match config:
        case AdwinConfig(delta=None):
            return config.model_copy(update={"delta": min(_LARGEST_DELTA, _ADWIN_ROWS * config.clock / _ADWIN_CLOCK / rows)})
        case DdmConfig():
            threshold = next(threshold for most, threshold in _DDM_THRESHOLDS if rows <= most)
            derived = {"warm_up_rows": _DDM_WARM_UP_ROWS, "threshold": threshold}
            return config.model_copy(update={key: value for key, value in derived.items() if getattr(config, key) is None})
        case KsInputConfig(alpha=None) | PsiInputConfig(alpha=None):
            return config.model_copy(update={"alpha": min(0.5, config.window_rows / rows)})
    return config
