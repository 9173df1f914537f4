"""Prequential scores: every row is predicted first and scored when its label comes, so the test set is the stream.

Gama, Sebastiao and Rodrigues, "On Evaluating Stream Learning Algorithms", Machine Learning 90, 2013: overall, and over
a sliding window that shows what the model is worth now. Shapes: N rows, K classes. Memory: O(K) and the window.
"""

from typing import Any, ClassVar

import numpy as np

from actors.learning.part import Tree

WINDOW_ROWS = 1_000
CURVE_POINTS = 512
CURVE_FIRST_STRIDE_ROWS = 50
SMALLEST_PROBABILITY = 1e-15


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


class ScoreCurve:
    """The mean of a value over the last 1,000 rows, noted every `stride` rows: at most 512 points for any stream.

    When it is full every second point goes and the stride doubles, so the points stay evenly spread.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._window = np.empty(0)
        self._stride = CURVE_FIRST_STRIDE_ROWS
        self._points: list[tuple[int, float]] = []
        self._last_row = -1

    @property
    def recent(self) -> float | None:
        return float(self._window.mean()) if len(self._window) else None

    def extend(self, row_N: np.ndarray, value_N: np.ndarray) -> None:
        """Adds finite values in the order in which their rows were scored; `row_N` labels the points."""
        if len(row_N) == 0:
            return
        joined = np.concatenate([self._window, value_N])
        sums = np.concatenate([[0.0], np.cumsum(joined)])
        before, kept = self.rows, len(self._window)
        for i in range(self._stride - before % self._stride, len(row_N) + 1, self._stride):
            if (before + i) % self._stride:  # the stride has doubled in this loop
                continue
            width = min(WINDOW_ROWS, kept + i)
            self._points.append((int(row_N[i - 1]), float((sums[kept + i] - sums[kept + i - width]) / width)))
            if len(self._points) == CURVE_POINTS:
                self._points = self._points[1::2]
                self._stride *= 2
        self.rows += len(row_N)
        self._window = joined[-WINDOW_ROWS:].copy()
        self._last_row = int(row_N[-1])

    def to_state(self) -> Tree:
        return {
            "rows": self.rows,
            "window": self._window,
            "stride": self._stride,
            "points": self._points,
            "last_row": self._last_row,
        }

    def restore(self, state: Tree) -> None:
        self.rows, self._window, self._stride = state["rows"], state["window"], state["stride"]
        self._points, self._last_row = [(row, value) for row, value in state["points"]], state["last_row"]

    def to_json(self) -> list[dict[str, Any]]:
        """The points, and always one for where the stream is now."""
        points = list(self._points)
        if self.recent is not None and (not points or points[-1][0] != self._last_row):
            points.append((self._last_row, self.recent))
        return [{"row": row, "value": value} for row, value in points]


def _classification_scores(margins_3K: np.ndarray, loss_sum: float) -> dict[str, float | None]:
    """Balanced accuracy is the mean recall of the classes that have labels; kappa is Cohen's (1960), null at 0/0."""
    label_count_K, predicted_count_K, correct_K = margins_3K
    rows = float(label_count_K.sum())
    if rows == 0:
        return {"accuracy": None, "balanced_accuracy": None, "kappa": None, "log_loss": None}
    accuracy = float(correct_K.sum()) / rows
    met_K = label_count_K > 0
    by_chance = float((label_count_K / rows) @ (predicted_count_K / rows))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float((correct_K[met_K] / label_count_K[met_K]).mean()),
        "kappa": (accuracy - by_chance) / (1 - by_chance) if by_chance < 1 else None,
        "log_loss": loss_sum / rows,
    }


class ClassificationScore:
    """Accuracy, balanced accuracy, kappa and log loss from each class's labels, predictions and hits.

    These margins of the confusion matrix are all that the four scores need, so thousands of classes cost three counters
    each rather than a square. A missing prediction (code -1) is wrong and belongs to no class. The log loss takes the
    probability given to the true class, at least 1e-15; a class the model did not know, or a probability that is not a
    number, counts as 1e-15 (a loss of 34.5).
    """

    metric: ClassVar[str] = "accuracy"

    def __init__(self) -> None:
        self._margins_3K = np.zeros((3, 0), dtype=np.int64)  # labels, predictions, hits
        self._loss_sum = 0.0
        self._curve = ScoreCurve()
        self._recent_2W = np.zeros((2, 0), dtype=np.int64)  # labels, codes
        self._recent_loss_W = np.empty(0)

    @property
    def rows(self) -> int:
        return self._curve.rows

    @property
    def overall(self) -> float | None:
        return float(self._margins_3K[2].sum()) / self.rows if self.rows else None

    @property
    def recent(self) -> float | None:
        return self._curve.recent

    def update(self, row_N: np.ndarray, label_N: np.ndarray, code_N: np.ndarray, probability_NK: np.ndarray) -> None:
        """`label_N` >= 0 and `code_N` >= -1 are class codes; K may differ from call to call."""
        if len(label_N) == 0:
            return
        loss_N = _log_loss(label_N, probability_NK)
        margins_3K = _margins(label_N, code_N)
        grown = np.zeros((3, max(margins_3K.shape[1], self._margins_3K.shape[1])), dtype=np.int64)
        grown[:, : self._margins_3K.shape[1]] = self._margins_3K
        grown[:, : margins_3K.shape[1]] += margins_3K
        self._margins_3K = grown
        self._loss_sum += float(loss_N.sum())
        self._curve.extend(row_N, (label_N == code_N).astype(np.float64))
        self._recent_2W = np.concatenate([self._recent_2W, np.stack([label_N, code_N])], axis=1)[:, -WINDOW_ROWS:].copy()
        self._recent_loss_W = np.concatenate([self._recent_loss_W, loss_N])[-WINDOW_ROWS:].copy()

    def to_state(self) -> Tree:
        return {
            "margins": self._margins_3K,
            "loss_sum": self._loss_sum,
            "curve": self._curve.to_state(),
            "recent": self._recent_2W,
            "recent_loss": self._recent_loss_W,
        }

    def restore(self, state: Tree) -> None:
        self._margins_3K, self._loss_sum = state["margins"], state["loss_sum"]
        self._curve.restore(state["curve"])
        self._recent_2W, self._recent_loss_W = state["recent"], state["recent_loss"]

    def to_json(self) -> dict[str, Any]:
        scores = _classification_scores(self._margins_3K, self._loss_sum)
        return {"metric": self.metric, "rows": self.rows, **scores, "curve": self._curve.to_json()}

    def recent_json(self) -> dict[str, Any]:
        """The same scores over the last 1,000 rows."""
        label_W, code_W = self._recent_2W
        scores = _classification_scores(_margins(label_W, code_W), float(self._recent_loss_W.sum()))
        return {"metric": self.metric, "rows": len(label_W), **scores}


def _log_loss(label_N: np.ndarray, probability_NK: np.ndarray) -> np.ndarray:
    probability_N = np.zeros(len(label_N))
    known_N = label_N < probability_NK.shape[1]
    probability_N[known_N] = probability_NK[known_N, label_N[known_N]]
    loss_N: np.ndarray = -np.log(np.clip(np.nan_to_num(probability_N, nan=0.0), SMALLEST_PROBABILITY, 1.0))
    return loss_N


def _margins(label_N: np.ndarray, code_N: np.ndarray) -> np.ndarray:
    classes = 1 + int(max(label_N.max(initial=-1), code_N.max(initial=-1)))
    return np.stack(
        [np.bincount(codes, minlength=classes) for codes in (label_N, code_N[code_N >= 0], label_N[label_N == code_N])]
    )


class RegressionScore:
    """Mean absolute error, root mean squared error and R2 (against the running mean of the labels, by Chan's update).

    An estimate that is missing or not finite cannot be scored: it is counted in `missing` and left out of the scores.
    """

    metric: ClassVar[str] = "mae"

    def __init__(self) -> None:
        self._missing = 0
        self._absolute_sum = self._squared_sum = 0.0
        self._label_mean = self._label_squares = 0.0
        self._curve = ScoreCurve()
        self._recent_2W = np.empty((2, 0))  # labels, errors

    @property
    def rows(self) -> int:
        return self._curve.rows + self._missing

    @property
    def overall(self) -> float | None:
        return _or_none(self._absolute_sum / self._curve.rows) if self._curve.rows else None

    @property
    def recent(self) -> float | None:
        return self._curve.recent

    def update(self, row_N: np.ndarray, label_N: np.ndarray, value_N: np.ndarray) -> None:
        with np.errstate(over="ignore"):  # a diverged model may overflow the squares, which the report shows as null
            error_N = np.asarray(value_N, dtype=np.float64) - np.asarray(label_N, dtype=np.float64)
            finite_N = np.isfinite(error_N)
            self._missing += int(len(error_N) - finite_N.sum())
            row_N, label_N, error_N = row_N[finite_N], np.asarray(label_N[finite_N], dtype=np.float64), error_N[finite_N]
            rows, before = len(row_N), self._curve.rows
            if rows == 0:
                return
            self._absolute_sum += float(np.abs(error_N).sum())
            self._squared_sum += float(np.square(error_N).sum())
            mean = float(label_N.mean())
            shift = mean - self._label_mean
            self._label_squares += float(np.square(label_N - mean).sum()) + shift * shift * before * rows / (before + rows)
            self._label_mean += shift * rows / (before + rows)
            self._curve.extend(row_N, np.abs(error_N))
        self._recent_2W = np.concatenate([self._recent_2W, np.stack([label_N, error_N])], axis=1)[:, -WINDOW_ROWS:].copy()

    def to_state(self) -> Tree:
        return {
            "missing": self._missing,
            "sums": [self._absolute_sum, self._squared_sum, self._label_mean, self._label_squares],
            "curve": self._curve.to_state(),
            "recent": self._recent_2W,
        }

    def restore(self, state: Tree) -> None:
        self._missing = state["missing"]
        self._absolute_sum, self._squared_sum, self._label_mean, self._label_squares = state["sums"]
        self._curve.restore(state["curve"])
        self._recent_2W = state["recent"]

    def to_json(self) -> dict[str, Any]:
        scores = _regression_scores(self._curve.rows, self._absolute_sum, self._squared_sum, self._label_squares)
        return {"metric": self.metric, "rows": self.rows, "missing": self._missing, **scores, "curve": self._curve.to_json()}

    def recent_json(self) -> dict[str, Any]:
        """The same scores over the last 1,000 rows that could be scored."""
        label_W, error_W = self._recent_2W
        with np.errstate(over="ignore"):
            squares = float(np.square(label_W - label_W.mean()).sum()) if len(label_W) else 0.0
            scores = _regression_scores(len(label_W), float(np.abs(error_W).sum()), float(np.square(error_W).sum()), squares)
        return {"metric": self.metric, "rows": len(label_W), **scores}


def _regression_scores(rows: int, absolute_sum: float, squared_sum: float, label_squares: float) -> dict[str, float | None]:
    if rows == 0:
        return {"mae": None, "rmse": None, "r2": None}
    return {
        "mae": _or_none(absolute_sum / rows),
        "rmse": _or_none(float(np.sqrt(squared_sum / rows))),
        "r2": _or_none(1 - squared_sum / label_squares) if label_squares > 0 else None,
    }


class FeedbackScore:
    """How good the answers were, 0 to 1: `score` of those that were given, `estimated_score` of those the model would give.

    A label scores the model's best answer, 1 or 0. What the model would have earned where another version answered is
    estimated from the scores that came, each weighted by how much more probable the model would have made that answer
    than it was (self-normalised importance sampling: Swaminathan and Joachims, NIPS 2015).
    """

    metric: ClassVar[str] = "score"

    def __init__(self) -> None:
        self._sums = np.zeros(5)  # of scores, of weights, of weighted scores, of labels, of labels that were answered
        self._curve = ScoreCurve()
        self._recent_5W = np.zeros((5, 0))

    @property
    def rows(self) -> int:
        return self._curve.rows

    @property
    def overall(self) -> float | None:
        return float(self._sums[0]) / self.rows if self.rows else None

    @property
    def recent(self) -> float | None:
        return self._curve.recent

    def update(self, row_N: np.ndarray, label_N: np.ndarray, code_N: np.ndarray, probability_NK: np.ndarray) -> np.ndarray:
        """`label_N` is of dtype FEEDBACK. Returns each row's score."""
        at_N, known_N = np.arange(len(label_N)), label_N["code"] < probability_NK.shape[1]
        probability_N = np.zeros(len(label_N))
        probability_N[known_N] = probability_NK[at_N[known_N], label_N["code"][known_N]]
        is_label_N = np.isnan(label_N["score"])
        is_right_N = is_label_N & (label_N["code"] == code_N)
        score_N = np.where(is_label_N, is_right_N, label_N["score"]).astype(np.float64)
        weight_N = np.where(is_label_N, 1.0, probability_N / label_N["propensity"])
        earned_N = np.where(is_label_N, probability_N, weight_N * score_N)
        every_5N = np.stack([score_N, weight_N, earned_N, is_label_N, is_right_N])
        self._sums += every_5N.sum(axis=1)
        self._curve.extend(row_N, score_N)
        self._recent_5W = np.concatenate([self._recent_5W, every_5N], axis=1)[:, -WINDOW_ROWS:].copy()
        return score_N

    def to_state(self) -> Tree:
        return {"sums": self._sums, "curve": self._curve.to_state(), "recent": self._recent_5W}

    def restore(self, state: Tree) -> None:
        self._sums, self._recent_5W = state["sums"].copy(), state["recent"]
        self._curve.restore(state["curve"])

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "rows": self.rows,
            **_feedback_scores(self.rows, self._sums),
            "curve": self._curve.to_json(),
        }

    def recent_json(self) -> dict[str, Any]:
        """The same scores over the last 1,000 rows."""
        rows = self._recent_5W.shape[1]
        return {"metric": self.metric, "rows": rows, **_feedback_scores(rows, self._recent_5W.sum(axis=1))}


def _feedback_scores(rows: int, sums_5: np.ndarray) -> dict[str, float | None]:
    score, weight, earned, labels, right = sums_5.tolist()
    return {
        "score": score / rows if rows else None,
        "estimated_score": earned / weight if weight else None,
        "accuracy": right / labels if labels else None,
    }
