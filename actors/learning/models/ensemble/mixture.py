"""The mixture: how far to trust which expert, learned from every row as its label comes.

First layer: log-linear mixtures of all experts, p proportional to exp(sum of a_e log p_e) (Mattern, "Mixing Strategies in Data
Compression", DCC 2012, section 3; as in PAQ: Mahoney 2005). One follows exponentiated gradients, which soon find the few good
ones among many experts (Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors", 1997);
others follow gradients scaled by their size of late, which may turn an expert round (after AdaGrad: Duchi, Hazan, Singer, JMLR
2011, with sums that fade). Beside them, fixed-share hedges (Herbster and Warmuth, "Tracking the Best Expert", 1998). Second
layer: one log-linear mixture of these, so that no step size has to be chosen. The answer is the mean of all these mixtures, by
the standing of each: how often it was right of late and how likely it found the labels, faded over some thousands of rows
(Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games", 2006, section 2.11, with both losses at once). It is never far
behind the best of them.

A mixture that follows the stream forgets whom to ask about what the stream does not show now. So one more mixture of the
first layer learns only from remembered rows, and the second layer has weights of their own for rows of which that one is sure
that they are of a class that has become rare: they learn from new rows and remembered ones alike. Such rows it answers alone,
until the stream has shown that classes which become rare come back: only then do its labels tell who is right about them.

Labels that come late can be read in two ways, and there are mixtures for each. By what the experts *said* when the row was
predicted: that is what they are worth so many rows behind. But after a change nobody has said anything true until the first
labels are there, and who has learned the new rule shows only when the labels of what he says now come, twice as late. By what
they say *anew* of the row as its label comes, just before they learn it: that shows at once who follows, but overrates whoever
lives on the last few labels. All mixtures stand as they did with what they had said, so the better reading wins.

A label that comes d rows late is one of d + 1 that no step has taken into account yet (delayed gradients: Joulani, Gyorgy,
Szepesvari, "Online Learning under Delayed Feedback", ICML 2013). Small steps do not overshoot for that, large ones do: by what
was said, a step of size r becomes r / (1 + 2 r d).

Shapes: N rows to predict, T labelled rows, E experts, V readings, R log-linear mixtures, S of them by scaled gradients, Q
hedges, X = R + Q + 1 mixtures of the first layer, Y = X + 1 with the second one's, C contexts, K outputs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from actors.learning.models.ensemble.analytic import DECAYS
from actors.learning.models.ensemble.compiled import compiled
from actors.learning.models.ensemble.targets import CLASSES, SCORES, answer, error

RATES_R = np.array([0.1, 0.01, 0.1], np.float32)  # exponentiated gradients, then scaled ones
_SCALED, _SQUARES_KEPT = 2, np.float32(0.999)
SHARES_Q = np.array([1e-3, 1e-2], np.float32)
ANALYTIC = len(DECAYS)  # the last of the experts
MIXTURES = len(RATES_R) + len(SHARES_Q) + 1
READINGS = 2  # of labels: by what the experts said, and by what they say anew
SAID, ANEW = range(READINGS)
CONTEXTS = 2  # ordinary; and the lasting mixture is sure of a class that has become rare
_RARE_NEW_RATE = np.float32(1e-3)
_SECOND_RATE, _RARE_RATE, _LASTING_RATE = np.float32(1e-3), np.float32(1e-1), np.float32(3e-2)
_RARE, _SURE = np.float32(0.2), np.float32(0.8)
_STANDING_KEPT, _LEAST_LIKELY = np.float32(0.9995), np.float32(0.01)
_STANDING_RATE, _RARE_STANDING_RATE = np.float32(0.02), np.float32(0.05)
_RIGHT = np.float32(2)  # what a right answer counts beside the log of its likelihood
_AHEAD, _RETURNS_RATE, _RETURNS_COUNT = np.float32(6), np.float32(1e-3), np.float32(10)
_LATE, _HEDGE_RATE = np.float32(2), np.float32(1e-2)
_LEAST_WEIGHT, _MOST_WEIGHT = np.float32(1e-4), np.float32(4)  # of an expert by exponentiated gradients
_SMOOTHED, _SMOOTHED_MIXTURE = np.float32(0.02), np.float32(1e-3)


def fresh(experts: int) -> dict[str, np.ndarray]:
    """The weights before the first label, float32: all that follow the stream count alike, for rare classes the lasting mixture
    half of it, and the second layer is far ahead there, since few rows show how it stands.

    The lasting mixture asks the closed form that forgets nothing, and the others as they prove to know what it does not.
    """
    second_CX = np.zeros((CONTEXTS, MIXTURES), np.float32)
    second_CX[0, :-1] = 1.0 / (MIXTURES - 1)
    second_CX[1:, :-1] = 0.5 / (MIXTURES - 1)
    second_CX[1:, -1] = 0.5
    standing_CVY = np.zeros((CONTEXTS, READINGS, MIXTURES + 1), np.float32)
    standing_CVY[1:, :, -1] = _AHEAD
    lasting_E = np.zeros(experts, np.float32)
    lasting_E[-ANALYTIC] = 1.0
    return {
        "mixture.weights": np.full((READINGS, len(RATES_R), experts), 1.0 / experts, np.float32),
        "mixture.squares": np.zeros((READINGS, _SCALED, experts), np.float32),
        "mixture.trust": np.full((READINGS, len(SHARES_Q), experts), 1.0 / experts, np.float32),
        "mixture.second": np.tile(second_CX, (READINGS, 1, 1)),
        "mixture.standing": standing_CVY,
        "mixture.lasting": lasting_E,
        "mixture.returns": np.zeros(1, np.float32),
    }


def readings(parts: Mapping[str, np.ndarray]) -> int:
    """How many there are to tell apart: one until a label has come late, from then on all."""
    weights_VRE = parts["mixture.weights"]
    return 1 if np.array_equal(weights_VRE[SAID], weights_VRE[ANEW]) else READINGS


def keep_alike(parts: Mapping[str, np.ndarray]) -> None:
    """While no label has come late, what is said anew is what was said. In place."""
    for name in ("mixture.weights", "mixture.squares", "mixture.trust", "mixture.second"):
        parts[name][ANEW] = parts[name][SAID]
    parts["mixture.standing"][:, ANEW] = parts["mixture.standing"][:, SAID]


def bound(parts: Mapping[str, np.ndarray]) -> None:
    """What steps of several learners must not leave where they have been added up. In place."""
    followed_VRE = parts["mixture.weights"][:, :-_SCALED]
    np.clip(followed_VRE, _LEAST_WEIGHT, _MOST_WEIGHT, out=followed_VRE)


@compiled
def to_logs(aim: int, said_NEK: np.ndarray) -> None:
    """In place: probabilities as centred logs, scores as logits, both smoothed; values stay."""
    rows, experts, outputs = said_NEK.shape
    if aim != CLASSES and aim != SCORES:
        return
    for n in range(rows):
        for e in range(experts):
            said_K = said_NEK[n, e]
            if aim == SCORES:
                for k in range(outputs):
                    p = min(max(said_K[k], np.float32(0)), np.float32(1)) * (1 - _SMOOTHED) + _SMOOTHED / 2
                    said_K[k] = np.log(p / (1 - p))
                continue
            total = np.float32(0)
            for k in range(outputs):
                total += said_K[k]
            share = (1 - _SMOOTHED) / total if total > 0 else np.float32(0)
            mean = np.float32(0)
            for k in range(outputs):
                said_K[k] = np.log(said_K[k] * share + _SMOOTHED / outputs)
                mean += said_K[k]
            for k in range(outputs):
                said_K[k] -= mean / outputs


@compiled
def _likelihood(aim: int, p_K: np.ndarray, code: int, value: float) -> Any:
    """Of the label, or of the score that the answer got."""
    if aim == CLASSES or value != value:
        return p_K[code]
    return p_K[code] * value + (1 - p_K[code]) * (1 - value)


@compiled
def _mixed(
    aim: int,
    log_EK: np.ndarray,
    known_K: np.ndarray,
    weights_RE: np.ndarray,
    trust_QE: np.ndarray,
    lasting_E: np.ndarray,
    second_CX: np.ndarray,
    rarity_K: np.ndarray,
    p_EK: np.ndarray,
    p_YK: np.ndarray,
    log_XK: np.ndarray,
) -> int:
    """Fills p_EK (each expert alone), p_YK (each mixture) and log_XK (the logs of the first layer's).

    Returns the context.
    """
    experts, outputs = log_EK.shape
    rates, hedges = len(weights_RE), len(trust_QE)
    out_K = np.empty(outputs, np.float32)
    for e in range(experts):
        answer(aim, log_EK[e], known_K, p_EK[e])
    for r in range(rates):
        out_K[:] = np.float32(0)
        for e in range(experts):
            for k in range(outputs):
                out_K[k] += weights_RE[r, e] * log_EK[e, k]
        answer(aim, out_K, known_K, p_YK[r])
    for q in range(hedges):
        p_YK[rates + q, :] = np.float32(0)
        for e in range(experts):
            for k in range(outputs):
                p_YK[rates + q, k] += trust_QE[q, e] * p_EK[e, k]
    out_K[:] = np.float32(0)
    for e in range(experts):
        for k in range(outputs):
            out_K[k] += lasting_E[e] * log_EK[e, k]
    answer(aim, out_K, known_K, p_YK[rates + hedges])
    context = 0
    if aim == CLASSES:
        likely = np.argmax(p_YK[rates + hedges])
        if rarity_K[likely] < _RARE and p_YK[rates + hedges, likely] >= _SURE:
            context = 1
    out_K[:] = np.float32(0)
    for x in range(rates + hedges + 1):
        mean, counted = np.float32(0), 0
        for k in range(outputs):
            p = p_YK[x, k] * (1 - _SMOOTHED_MIXTURE)
            if aim == SCORES:
                log_XK[x, k] = np.log((p + _SMOOTHED_MIXTURE / 2) / (1 - p - _SMOOTHED_MIXTURE / 2))
            else:
                log_XK[x, k] = np.log(p + _SMOOTHED_MIXTURE / outputs) if known_K[k] else np.float32(0)
                mean += log_XK[x, k]
                counted += 1 if known_K[k] else 0
        for k in range(outputs):
            if aim != SCORES and known_K[k]:
                log_XK[x, k] -= mean / counted
            out_K[k] += second_CX[context, x] * log_XK[x, k]
    answer(aim, out_K, known_K, p_YK[rates + hedges + 1])
    return context


@compiled
def _averaged(p_VYK: np.ndarray, standing_VY: np.ndarray, p_K: np.ndarray) -> None:
    """As far as there are readings in `p_VYK`."""
    best = np.max(standing_VY[: len(p_VYK)])
    total = np.float32(0)
    p_K[:] = np.float32(0)
    for v in range(len(p_VYK)):
        for y in range(p_VYK.shape[1]):
            weight = np.exp(standing_VY[v, y] - best)
            total += weight
            for k in range(len(p_K)):
                p_K[k] += weight * p_VYK[v, y, k]
    p_K /= total


@compiled
def _step_second(aim: int, gap_K: np.ndarray, log_XK: np.ndarray, rate: Any, second_X: np.ndarray) -> None:
    for x in range(len(second_X)):
        slope = np.float32(0)
        for k in range(len(gap_K)):
            slope += gap_K[k] * log_XK[x, k]
        second_X[x] -= rate * slope


@compiled
def _judge(aim: int, p_VYK: np.ndarray, code: int, value: float, weight: float, rate: Any, standing_VY: np.ndarray) -> None:
    """Of a score nobody can say whether an answer was right."""
    for v in range(len(p_VYK)):
        for y in range(p_VYK.shape[1]):
            gain = np.log(max(_likelihood(aim, p_VYK[v, y], code, value), _LEAST_LIKELY))
            if aim == CLASSES and np.argmax(p_VYK[v, y]) == code:
                gain += _RIGHT
            standing_VY[v, y] += weight * (rate * gain - (1 - _STANDING_KEPT) * standing_VY[v, y])


@compiled
def late(rate: Any, age: float) -> Any:
    """What is left of a step size for a label that comes `age` rows late."""
    return rate / (np.float32(1) + _LATE * rate * np.float32(age))


@compiled
def late_hedge(age: float) -> Any:
    """The same of a hedge's step, which counts as one of size 0.01."""
    return late(_HEDGE_RATE, age) / _HEDGE_RATE


@compiled
def _learn(
    aim: int,
    log_EK: np.ndarray,
    known_K: np.ndarray,
    code: int,
    value: float,
    weight: float,
    age: Any,
    is_rare: bool,
    p_EK: np.ndarray,
    p_YK: np.ndarray,
    log_XK: np.ndarray,
    gap_K: np.ndarray,
    weights_RE: np.ndarray,
    squares_SE: np.ndarray,
    trust_QE: np.ndarray,
    second_X: np.ndarray,
    rates_R: np.ndarray,
    shares_Q: np.ndarray,
) -> None:
    """A step of every mixture that follows the stream, after `_mixed` has filled what each says of the row."""
    experts, outputs = log_EK.shape
    error(aim, p_YK[-1], known_K, code, value, weight, gap_K)
    _step_second(aim, gap_K, log_XK, late(_RARE_NEW_RATE if is_rare else _SECOND_RATE, age), second_X)
    for r in range(len(rates_R)):
        error(aim, p_YK[r], known_K, code, value, weight, gap_K)
        for e in range(experts):
            slope = np.float32(0)
            for k in range(outputs):
                slope += gap_K[k] * log_EK[e, k]
            if r < len(rates_R) - _SCALED:
                step = min(max(late(rates_R[r], age) * slope, np.float32(-1)), np.float32(1))
                weights_RE[r, e] = min(max(weights_RE[r, e] * np.exp(-step), _LEAST_WEIGHT), _MOST_WEIGHT)
            else:
                s = r - len(rates_R) + _SCALED
                squares_SE[s, e] = square = _SQUARES_KEPT * squares_SE[s, e] + slope * slope
                weights_RE[r, e] -= late(rates_R[r] / np.sqrt(square + np.float32(1)), age) * slope
    heeded = late_hedge(age)
    for q in range(len(shares_Q)):
        total = np.float32(0)
        for e in range(experts):
            trust_QE[q, e] *= _likelihood(aim, p_EK[e], code, value) ** (heeded * weight)
            total += trust_QE[q, e]
        for e in range(experts):
            trust_QE[q, e] = (1 - shares_Q[q]) * trust_QE[q, e] / total + shares_Q[q] / experts


@compiled
def mix(
    aim: int,
    log_NEK: np.ndarray,
    said_TEK: np.ndarray,
    anew_TEK: np.ndarray,
    is_judged_T: np.ndarray,
    age_T: np.ndarray,
    code_T: np.ndarray,
    value_T: np.ndarray,
    weight_T: np.ndarray,
    upto_N: np.ndarray,
    known_K: np.ndarray,
    weights_VRE: np.ndarray,
    squares_VSE: np.ndarray,
    trust_VQE: np.ndarray,
    lasting_E: np.ndarray,
    second_VCX: np.ndarray,
    standing_CVY: np.ndarray,
    returns_1: np.ndarray,
    rarity_K: np.ndarray,
    rates_R: np.ndarray,
    shares_Q: np.ndarray,
    at_T: np.ndarray,
    mixed_TVYK: np.ndarray,
    mixed_NVYK: np.ndarray,
    p_NK: np.ndarray,
) -> None:
    """Answers row n after learning the first `upto_N[n]` labelled rows by `said_TEK`, what the experts had said of them, and by
    `anew_TEK`, what they say as the label comes. There are as many readings as `mixed_NVYK` has.

    `mixed_TVYK`: what the mixtures had said of them; of those that are among the rows to predict, at `at_T` (else -1), it is
    `mixed_NVYK`, which is filled. p_NK float32: zeros while no class is known. Changes the weights in place. Of labelled rows
    that are not `is_judged_T` nothing is known that was said.
    """
    rows, experts, outputs = log_NEK.shape
    _, readings, answers, _ = mixed_NVYK.shape
    known_K = known_K.copy()
    p_EK, p_YK = np.empty((experts, outputs), np.float32), np.empty((answers, outputs), np.float32)
    log_XK, gap_K = np.empty((answers - 1, outputs), np.float32), np.empty(outputs, np.float32)
    knows = False
    for k in range(outputs):
        knows = knows or known_K[k]
    t = 0
    for n in range(rows + 1):
        while t < (upto_N[n] if n < rows else len(code_T)):
            code, value, weight = code_T[t], value_T[t], weight_T[t]
            for v in range(readings):
                if not known_K[code] or (v == SAID and not is_judged_T[t]):
                    continue
                log_EK, age = (said_TEK[t], age_T[t]) if v == SAID else (anew_TEK[t], np.float32(0))
                context = _mixed(
                    aim, log_EK, known_K, weights_VRE[v], trust_VQE[v], lasting_E, second_VCX[v], rarity_K, p_EK, p_YK, log_XK
                )
                if v == SAID:
                    heed = weight
                    if aim == CLASSES:
                        is_back = np.float32(1) if rarity_K[code] < _RARE else np.float32(0)
                        returns_1[0] += _RETURNS_RATE * (is_back - returns_1[0])
                        if context:
                            heed *= min(_RETURNS_COUNT * returns_1[0], np.float32(1))
                    said_VYK = mixed_NVYK[at_T[t]] if at_T[t] >= 0 else mixed_TVYK[t]
                    rate = _RARE_STANDING_RATE if context else _STANDING_RATE
                    _judge(aim, said_VYK, code, value, heed, rate, standing_CVY[context])
                _learn(
                    aim, log_EK, known_K, code, value, weight, age, context > 0, p_EK, p_YK, log_XK, gap_K, weights_VRE[v],
                    squares_VSE[v], trust_VQE[v], second_VCX[v, context], rates_R, shares_Q,
                )  # fmt: skip
            if aim == CLASSES:
                known_K[code] = True
            knows = True
            t += 1
        if n < rows:
            p_NK[n, :] = np.float32(0)
            if knows:
                context = 0
                for v in range(readings):
                    context = _mixed(
                        aim, log_NEK[n], known_K, weights_VRE[v], trust_VQE[v], lasting_E, second_VCX[v], rarity_K, p_EK,
                        mixed_NVYK[n, v], log_XK,
                    )  # fmt: skip
                _averaged(mixed_NVYK[n], standing_CVY[context], p_NK[n])


@compiled
def rehearse(
    log_NEK: np.ndarray,
    code_N: np.ndarray,
    known_K: np.ndarray,
    weights_VRE: np.ndarray,
    trust_VQE: np.ndarray,
    lasting_E: np.ndarray,
    second_VCX: np.ndarray,
    rarity_K: np.ndarray,
    is_lasting_E: np.ndarray,
) -> None:
    """Learns from what the experts say now of remembered rows: the lasting mixture, and the second layer where it is asked.

    The lasting mixture trusts none but those that `is_lasting_E`.
    """
    rows, experts, outputs = log_NEK.shape
    mixtures = second_VCX.shape[2]
    p_EK, p_YK = np.empty((experts, outputs), np.float32), np.empty((mixtures + 1, outputs), np.float32)
    log_XK = np.empty((mixtures, outputs), np.float32)
    for n in range(rows):
        for v in range(len(second_VCX)):
            context = _mixed(
                CLASSES, log_NEK[n], known_K, weights_VRE[v], trust_VQE[v], lasting_E, second_VCX[v], rarity_K, p_EK, p_YK,
                log_XK,
            )  # fmt: skip
            if context:
                p_YK[mixtures, code_N[n]] -= np.float32(1)
                _step_second(CLASSES, p_YK[mixtures], log_XK, _RARE_RATE, second_VCX[v, context])
        p_YK[mixtures - 1, code_N[n]] -= np.float32(1)
        for e in range(experts):
            if not is_lasting_E[e]:
                continue
            slope = np.float32(0)
            for k in range(outputs):
                slope += p_YK[mixtures - 1, k] * log_NEK[n, e, k]
            # Never below 0: an expert that only knows the latest classes must not count as evidence against them.
            lasting_E[e] = max(lasting_E[e] - _LASTING_RATE * slope, np.float32(0))
