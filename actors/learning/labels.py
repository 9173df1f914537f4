"""Labels as arrays, one for each kind of task. Shapes: N rows, K classes."""

import numpy as np

from actors.learning.task import TaskKind

FEEDBACK = np.dtype([("code", np.int64), ("score", np.float32), ("propensity", np.float32), ("version", np.int64)])
"""The answer that was given, its score in [0, 1], the probability with which it was given, and the version that gave it.

Where the score is NaN the answer is a label: the right one, whatever was given.
"""

LARGEST_WEIGHT = 10.0  # of an answer that was improbable: what bounds the variance


def label_dtype(kind: TaskKind) -> np.dtype:
    """int64 class codes, float64 numbers, or FEEDBACK."""
    match kind:
        case TaskKind.REGRESSION:
            return np.dtype(np.float64)
        case TaskKind.FEEDBACK:
            return FEEDBACK
        case _:
            return np.dtype(np.int64)


def codes_of(y_N: np.ndarray) -> np.ndarray:
    """The class codes of labels, or of the answers that feedback is about."""
    return y_N["code"] if y_N.dtype == FEEDBACK else y_N


def feedback_targets(y_N: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """What `sigmoid(out)`, the estimated score of each answer, is to be, and what that counts: float32 [N, outputs] each.

    The loss is the cross entropy, the sum over answers. A label tells the score of every answer, 1 or 0. A score tells that of
    one, so it counts by 1 / propensity, at most 10 times: in expectation both weigh alike (importance-weighted regression:
    Bietti, Agarwal and Langford, "A Contextual Bandit Bake-off", JMLR 22, 2021, section 2.3).
    """
    rows, at_N = len(y_N), np.arange(len(y_N))
    code_N, score_N = y_N["code"], y_N["score"]
    is_label_N = np.isnan(score_N)
    target_NK = np.zeros((rows, outputs), np.float32)
    target_NK[at_N, code_N] = np.where(is_label_N, 1.0, score_N)
    weight_NK = np.repeat(is_label_N[:, None].astype(np.float32), outputs, axis=1)
    weight_N = np.minimum(LARGEST_WEIGHT, 1.0 / np.maximum(y_N["propensity"], 1e-6))
    weight_NK[at_N, code_N] = np.where(is_label_N, 1.0, weight_N)
    return target_NK, weight_NK
