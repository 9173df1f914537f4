"""Seeded streams of many kinds for benchmarks/accuracy.py, most of them after the generators that the literature uses.

Every stream is a function (rng, rows) -> columns in order, the label last; drift comes at fractions of the rows. Shapes:
N rows, D features, K classes. `write_csv` makes the file that every method reads.

    .venv/bin/python benchmarks/drifting_streams.py FOLDER [--streams NAME ...] [--rows 20000] [--seed 1]
"""

import argparse
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

LABEL = "class"
Columns = dict[str, np.ndarray]
Generator = np.random.Generator


def sea(rng: Generator, rows: int) -> Columns:
    """Two of three features add up to more than a threshold, which changes three times; 10 % noise (Street and Kim, 2001)."""
    x_ND = rng.uniform(0, 10, (rows, 3))
    threshold_N = np.array([8.0, 9.0, 7.0, 9.5])[_concept(rows, 4)]
    return _columns(x_ND, _noisy(rng, (x_ND[:, 0] + x_ND[:, 1] <= threshold_N).astype(int), 2, 0.1))


def hyperplane(rng: Generator, rows: int) -> Columns:
    """The side of a hyperplane that turns all the time, 5 of its 10 weights; 5 % noise (Hulten et al., 2001)."""
    x_ND, weight_D, drift_D = rng.random((rows, 10)), rng.random(10), np.where(np.arange(10) < 5, 1.0, 0.0)
    turns_ND = np.cumsum(drift_D * np.where(rng.random((rows, 10)) < 2e-3, -1, 1), axis=0)
    weight_ND = weight_D + 1e-3 * turns_ND * rng.choice([-1, 1], 10)
    y_N = np.einsum("nd,nd->n", x_ND, weight_ND) >= 0.5 * weight_ND.sum(axis=1)
    return _columns(x_ND, _noisy(rng, y_N.astype(int), 2, 0.05))


def rbf_drift(rng: Generator, rows: int) -> Columns:
    """Fifty Gaussians in ten dimensions, five classes, every centre moves at its own speed (MOA's RandomRBFDrift)."""
    centres, d = 50, 10
    place_CD, step_CD = rng.random((centres, d)), rng.standard_normal((centres, d))
    step_CD *= 4e-4 / np.linalg.norm(step_CD, axis=1, keepdims=True)
    class_C, width_C, weight_C = rng.integers(0, 5, centres), rng.uniform(0.02, 0.12, centres), rng.random(centres)
    at_N = rng.choice(centres, rows, p=weight_C / weight_C.sum())
    # A centre that leaves the unit cube comes back: the place is a triangle wave of the distance that it went.
    place_ND = np.abs((place_CD[at_N] + np.arange(rows)[:, None] * step_CD[at_N] + 1) % 2 - 1)
    return _columns(place_ND + width_C[at_N, None] * rng.standard_normal((rows, d)), class_C[at_N])


def led(rng: Generator, rows: int) -> Columns:
    """Digits on seven segments, each wrong with 10 %, among 17 lamps that mean nothing; lamps swap places twice."""
    segments_KS = np.array([[int(bit) for bit in code] for code in _SEGMENTS])
    y_N = rng.integers(0, 10, rows)
    x_ND = np.concatenate([segments_KS[y_N] ^ (rng.random((rows, 7)) < 0.1), rng.integers(0, 2, (rows, 17))], axis=1)
    order_CD = np.stack([rng.permutation(24) for _ in range(3)])
    return _columns(np.take_along_axis(x_ND, order_CD[_concept(rows, 3)], axis=1), y_N)


def mixed(rng: Generator, rows: int) -> Columns:
    """Words and numbers: a label by two of words' groups, a boolean and a curve, turned round gradually (after MIXED, 2004)."""
    words = np.array([f"w{i}" for i in range(20)])
    at_N, on_N, x_ND = rng.integers(0, 20, rows), rng.random(rows) < 0.5, rng.random((rows, 2))
    curve_N = x_ND[:, 1] < 0.5 + 0.3 * np.sin(3 * np.pi * x_ND[:, 0])
    y_N = (on_N.astype(int) + curve_N + np.isin(at_N, rng.permutation(20)[:8])) >= 2
    y_N ^= _gradual(rng, rows, 3) % 2 == 1
    made = {"word": words[at_N], "on": np.where(on_N, "yes", "no"), "x0": x_ND[:, 0], "x1": x_ND[:, 1]}
    return made | {LABEL: np.where(_noisy(rng, y_N.astype(int), 2, 0.05) == 1, "up", "down")}


def agrawal(rng: Generator, rows: int) -> Columns:
    """Loans granted by rules on age, salary and education, which take turns and come back (Agrawal et al., 1993)."""
    salary_N, age_N = rng.uniform(20_000, 150_000, rows), rng.integers(20, 81, rows)
    commission_N = np.where(salary_N >= 75_000, 0, rng.uniform(10_000, 75_000, rows))
    education_N, car_N, zip_N = rng.integers(0, 5, rows), rng.integers(1, 21, rows), rng.integers(0, 9, rows)
    value_N = (9 - zip_N) * 100_000 * rng.uniform(0.5, 1.5, rows)
    years_N, loan_N = rng.integers(1, 31, rows), rng.uniform(0, 500_000, rows)
    young_N, old_N = age_N < 40, age_N >= 60
    by_age_N = young_N | old_N
    band_N = np.where(young_N, 50_000, np.where(old_N, 25_000, 75_000))
    by_salary_N = (band_N <= salary_N) & (salary_N <= band_N + 50_000)
    by_education_N = np.where(
        young_N, education_N <= 1, np.where(old_N, education_N >= 2, (education_N >= 1) & (education_N < 4))
    )
    by_means_N = 0.67 * (salary_N + commission_N) - 0.2 * loan_N + 0.04 * value_N - 5_000 * education_N > 40_000
    rules_RN = np.stack([by_age_N, by_salary_N, by_education_N, by_means_N])
    y_N = rules_RN[np.array([0, 1, 2, 3, 1, 0])[_concept(rows, 6)], np.arange(rows)]
    x_ND = np.stack([salary_N, commission_N, age_N, education_N, car_N, zip_N, value_N, years_N, loan_N], axis=1)
    return _columns(x_ND, _noisy(rng, y_N.astype(int), 2, 0.05))


def rare_heavy(rng: Generator, rows: int) -> Columns:
    """Some 3 % positives, known by two amounts with heavy tails out of 15 features; what gives them away changes abruptly."""
    x_ND = rng.standard_t(2.5, (rows, 15))
    x_ND[:, :5] = np.exp(rng.normal(3, 1.5, (rows, 5)))
    concept_N = _concept(rows, 3)
    evidence_N = np.zeros(rows)
    for concept in range(3):
        part = concept_N == concept
        amount, other = np.log(x_ND[part, rng.integers(0, 5)]) / 1.5 - 2, x_ND[part, rng.integers(5, 15)]
        evidence_N[part] = amount + np.clip(other, -3, 3) * rng.choice([-1, 1])
    y_N = evidence_N + 0.4 * rng.standard_normal(rows) > np.quantile(evidence_N, 0.97)
    return _columns(x_ND, y_N.astype(int))


def interaction(rng: Generator, rows: int) -> Columns:
    """Exclusive or of the signs of two features out of 12, which no single one tells of; another pair after the middle."""
    x_ND, pairs_CP = rng.standard_normal((rows, 12)), rng.permutation(12)[:4].reshape(2, 2)
    sign_NP = np.take_along_axis(x_ND, pairs_CP[_concept(rows, 2)], axis=1) > 0
    return _columns(x_ND, _noisy(rng, (sign_NP[:, 0] ^ sign_NP[:, 1]).astype(int), 2, 0.05))


def one_decides(rng: Generator, rows: int) -> Columns:
    """Four bands of one feature out of 30 are three classes; another feature decides after each third."""
    x_ND, edges_B = rng.gamma(2, 1, (rows, 30)), np.array([0.9, 1.7, 2.7])
    decides_C, class_CB = rng.permutation(30)[:3], np.stack([rng.permutation([0, 1, 2, 0]) for _ in range(3)])
    concept_N = _concept(rows, 3)
    band_N = np.searchsorted(edges_B, x_ND[np.arange(rows), decides_C[concept_N]])
    return _columns(x_ND, _noisy(rng, class_CB[concept_N, band_N], 3, 0.04))


def runs(rng: Generator, rows: int) -> Columns:
    """Twenty classes that come in runs of some 25 rows, each with two looks, while the light changes slowly."""
    change_N, drawn_N = rng.random(rows) < 0.04, rng.integers(0, 40, rows)
    change_N[0] = True
    look_N = drawn_N[np.maximum.accumulate(np.where(change_N, np.arange(rows), 0))]
    look_LD, light_2D = rng.normal(0, 1.2, (40, 16)), rng.normal(0, 0.7, (2, 16))
    turn_N = 2 * np.pi * np.arange(rows) / 9000
    light_ND = np.outer(np.sin(turn_N), light_2D[0]) + np.outer(np.cos(0.7 * turn_N), light_2D[1])
    return _columns(look_LD[look_N] + light_ND + 0.9 * rng.standard_normal((rows, 16)), look_N // 2)


def missing(rng: Generator, rows: int) -> Columns:
    """Six classes of three Gaussians each, 15 % of the values missing, half of it where they are large; gradual drift."""
    concept_N, class_N, part_N = _gradual(rng, rows, 3), rng.integers(0, 6, rows), rng.integers(0, 3, rows)
    centre_CKPD = rng.normal(0, 1.3, (3, 6, 3, 10))
    x_ND = centre_CKPD[concept_N, class_N, part_N] + rng.standard_normal((rows, 10))
    x_ND[(rng.random(x_ND.shape) < 0.075) | ((x_ND > 1.5) & (rng.random(x_ND.shape) < 0.4))] = np.nan
    return _columns(x_ND, class_N)


def stationary(rng: Generator, rows: int) -> Columns:
    """Independent rows of one rule that is not linear: three classes, 12 features of very different scales, 5 % noise."""
    x_ND, in_DH, out_HK = rng.standard_normal((rows, 12)), rng.standard_normal((12, 10)) / 2.5, rng.standard_normal((10, 3))
    y_N = (np.tanh(2 * x_ND @ in_DH) @ out_HK).argmax(axis=1)
    return _columns(x_ND * 10.0 ** rng.integers(-3, 4, 12), _noisy(rng, y_N, 3, 0.05))


def wide(rng: Generator, rows: int) -> Columns:
    """Fifty features of which ten weigh, four classes by what they weigh; half of the weights are drawn anew three times."""
    x_ND, concept_N, y_N = rng.standard_normal((rows, 50)), _concept(rows, 4), np.zeros(rows, int)
    weight_DK, matters_D = rng.standard_normal((50, 4)), np.arange(50) < 10
    for concept in range(4):
        part = concept_N == concept
        y_N[part] = (x_ND[part] @ (weight_DK * matters_D[:, None])).argmax(axis=1)
        weight_DK = np.where(rng.random((50, 1)) < 0.5, rng.standard_normal((50, 4)), weight_DK)
    return _columns(x_ND[:, rng.permutation(50)], _noisy(rng, y_N, 4, 0.05))


def sine(rng: Generator, rows: int) -> Columns:
    """Above or below a sine; the classes swap abruptly, nine times (Gama et al., 2004). Two features mean nothing."""
    x_ND = rng.random((rows, 4))
    y_N = (x_ND[:, 0] < 0.5 + 0.3 * np.sin(3 * np.pi * x_ND[:, 1])) ^ (_concept(rows, 10) % 2 == 1)
    return _columns(x_ND, y_N.astype(int))


def market(rng: Generator, rows: int) -> Columns:
    """Whether a price that swings by the day is above its mean of late: labels that stick, features that remember."""
    step_N = np.arange(rows)
    load_N = np.sin(2 * np.pi * step_N / 48) + 0.3 * np.sin(2 * np.pi * step_N / 336) + _remembering(rng, rows, 0.98, 0.12)
    bends_N = np.array([1.0, -0.4, 1.6, 0.6])[_gradual(rng, rows, 4)]
    price_N = np.tanh(load_N) * bends_N + 0.6 * _remembering(rng, rows, 0.95, 0.3)
    sums_N = np.concatenate([np.zeros(48), np.cumsum(price_N)])
    mean_N = (sums_N[48:] - sums_N[:-48]) / np.minimum(step_N + 1, 48)
    seen_N = np.concatenate([[0.0], price_N[:-1]]) + 0.1 * rng.standard_normal(rows)
    neighbour_N = 0.8 * load_N + _remembering(rng, rows, 0.97, 0.15)
    made = {"period": step_N % 48, "day": step_N // 48 % 7, "load": load_N, "neighbour": neighbour_N, "last_price": seen_N}
    return made | {LABEL: (price_N > mean_N).astype(int)}


def many_classes(rng: Generator, rows: int) -> Columns:
    """Twenty classes as unequal as words are, 20 features, two Gaussians each; seven of them are met only later."""
    weight_K, since_K = 1 / np.arange(1, 21), np.concatenate([np.zeros(13), np.linspace(0.1, 0.8, 7)])
    drawn_NK = rng.gumbel(size=(rows, 20)) + np.log(weight_K)
    drawn_NK[np.arange(rows)[:, None] / rows < since_K] = -np.inf
    y_N, centre_KPD = drawn_NK.argmax(axis=1), rng.normal(0, 0.85, (20, 2, 20))
    return _columns(centre_KPD[y_N, rng.integers(0, 2, rows)] + rng.standard_normal((rows, 20)), y_N)


def waveform(rng: Generator, rows: int) -> Columns:
    """Three mixtures of three waves at 21 points, 19 more of noise (Breiman et al., 1984); the points swap in the middle."""
    wave_W21 = np.maximum(6 - np.abs(np.arange(21) - np.array([[6], [14], [10]])), 0)
    y_N, mix_N = rng.integers(0, 3, rows), rng.random((rows, 1))
    first_N, second_N = np.array([0, 0, 1])[y_N], np.array([1, 2, 2])[y_N]
    x_ND = np.concatenate([mix_N * wave_W21[first_N] + (1 - mix_N) * wave_W21[second_N], np.zeros((rows, 19))], axis=1)
    order_CD = np.stack([np.arange(40), rng.permutation(40)])
    return _columns(np.take_along_axis(x_ND + rng.standard_normal(x_ND.shape), order_CD[_concept(rows, 2)], axis=1), y_N)


def random_tree(rng: Generator, rows: int) -> Columns:
    """Leaves of a random tree over five numbers and five categories coded as integers; a new tree in the middle."""
    x_ND = np.concatenate([rng.random((rows, 5)), rng.integers(0, 5, (rows, 5))], axis=1)
    y_N, concept_N = np.zeros(rows, int), _concept(rows, 2)
    for concept in range(2):
        part = np.flatnonzero(concept_N == concept)
        _grow(rng, x_ND, part, np.array([[0.0, 1.0]] * 5), 0, y_N)
    return _columns(x_ND, y_N)


def _grow(rng: Generator, x_ND: np.ndarray, rows_N: np.ndarray, box_D2: np.ndarray, depth: int, y_N: np.ndarray) -> None:
    """Splits the rows at random down to leaves of one class out of four each, written into y_N."""
    if depth == 6 or (depth > 2 and rng.random() < 0.15):
        y_N[rows_N] = rng.integers(0, 4)
        return
    feature = int(rng.integers(0, 10))
    if feature < 5:
        low, high = box_D2[feature]
        at = rng.uniform(low, high)
        left_N = x_ND[rows_N, feature] < at
    else:
        left_N, at = x_ND[rows_N, feature] == rng.integers(0, 5), None
    for side_N, bounds in ((left_N, (0, at)), (~left_N, (at, 1))):
        inner_D2 = box_D2.copy()
        if at is not None:
            low, high = box_D2[feature]
            inner_D2[feature] = (low, at) if bounds[0] == 0 else (at, high)
        _grow(rng, x_ND, rows_N[side_N], inner_D2, depth + 1, y_N)


def clicks(rng: Generator, rows: int) -> Columns:
    """Who of 2,000 users clicks on which of 400 items, few of which most rows are about; what items are liked changes once."""
    user_N, item_N = _zipf(rng, 2_000, rows), _zipf(rng, 400, rows)
    price_N, liking_U, liking_CI = rng.standard_normal(rows), rng.normal(0, 0.5, 2_000), rng.normal(0, 1.2, (2, 400))
    odds_N = liking_U[user_N] + liking_CI[_concept(rows, 2), item_N] + 0.8 * price_N - 1
    y_N = rng.random(rows) < 1 / (1 + np.exp(-1.5 * odds_N))
    made = {"user": _names("u", user_N), "item": _names("i", item_N), "price": price_N}
    return made | {LABEL: np.where(y_N, "click", "none")}


def word_pairs(rng: Generator, rows: int) -> Columns:
    """Two of ten words each tell one of three classes together and nothing alone; other pairs after the middle; 5 % noise."""
    at_N2, class_CVV = rng.integers(0, 10, (rows, 2)), rng.integers(0, 3, (2, 10, 10))
    y_N = _noisy(rng, class_CVV[_concept(rows, 2), at_N2[:, 0], at_N2[:, 1]], 3, 0.05)
    made = {"first": _names("a", at_N2[:, 0]), "second": _names("b", at_N2[:, 1]), "x": rng.standard_normal(rows)}
    return made | {LABEL: y_N}


def own_rules(rng: Generator, rows: int) -> Columns:
    """Sixty machines, each with a limit and a side of its own; half of them are adjusted after the middle; 5 % noise."""
    at_N, x_N, limit_CM = rng.integers(0, 60, rows), rng.normal(0, 1.5, rows), np.tile(rng.normal(0, 1.5, 60), (2, 1))
    limit_CM[1, ::2] = rng.normal(0, 1.5, 30)
    y_N = rng.choice([-1, 1], 60)[at_N] * (x_N - limit_CM[_concept(rows, 2), at_N]) > 0
    return {"machine": _names("m", at_N), "x": x_N, LABEL: _noisy(rng, y_N.astype(int), 2, 0.05)}


def flights(rng: Generator, rows: int) -> Columns:
    """Whether a flight is late: carrier, two airports, weekday and hour each add a little; carriers change gradually."""
    carrier_N, day_N = rng.integers(0, 18, rows), np.arange(rows) // 3_000 % 7
    airport_2N = np.stack([_zipf(rng, 290, rows), _zipf(rng, 290, rows)])
    hour_N, worth_CC, worth_2A = rng.uniform(-1, 1, rows), rng.normal(0, 0.5, (2, 18)), rng.normal(0, 0.5, (2, 290))
    odds_N = worth_CC[_gradual(rng, rows, 2), carrier_N] + worth_2A[0, airport_2N[0]] + worth_2A[1, airport_2N[1]]
    odds_N += rng.normal(0, 0.5, 7)[day_N] + hour_N
    made = {"carrier": _names("c", carrier_N), "origin": _names("a", airport_2N[0]), "to": _names("a", airport_2N[1])}
    made |= {"day": _names("d", day_N), "hour": 12 + 12 * hour_N}
    return made | {LABEL: np.where(rng.random(rows) < 1 / (1 + np.exp(-odds_N)), "late", "on_time")}


STREAMS: dict[str, Callable[[Generator, int], Columns]] = {
    made.__name__: made
    for made in (
        sea,
        hyperplane,
        rbf_drift,
        led,
        mixed,
        agrawal,
        rare_heavy,
        interaction,
        one_decides,
        runs,
        missing,
        stationary,
        wide,
        sine,
        market,
        many_classes,
        waveform,
        random_tree,
        clicks,
        word_pairs,
        own_rules,
        flights,
    )
}

_SEGMENTS = ["1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011"]


def make(name: str, rows: int, seed: int) -> Columns:
    """The stream of that name; the same seed makes the same rows, whichever other streams are made."""
    return STREAMS[name](np.random.default_rng([seed, zlib.crc32(name.encode())]), rows)


def write_csv(columns: Columns, path: Path) -> None:
    """Missing values become empty fields; numbers keep six digits."""
    arrays = {}
    for name, value_N in columns.items():
        if value_N.dtype.kind == "f":
            whole = bool((value_N[np.isfinite(value_N)] % 1 == 0).all())
            rounded_N = value_N if whole else np.array([float(f"{value:.6g}") for value in value_N])
            array = pa.array(rounded_N, mask=np.isnan(value_N))
            arrays[name] = array.cast(pa.int64()) if whole else array
        else:
            arrays[name] = pa.array(value_N)
    pyarrow.csv.write_csv(pa.table(arrays), path, pyarrow.csv.WriteOptions(quoting_style="needed"))


def _columns(x_ND: np.ndarray, y_N: np.ndarray) -> Columns:
    return {f"x{i}": x_ND[:, i] for i in range(x_ND.shape[1])} | {LABEL: y_N}


def _noisy(rng: Generator, y_N: np.ndarray, classes: int, fraction: float) -> np.ndarray:
    """That fraction of the labels is another class."""
    return np.where(rng.random(len(y_N)) < fraction, (y_N + rng.integers(1, classes, len(y_N))) % classes, y_N)


def _concept(rows: int, concepts: int) -> np.ndarray:
    """One concept after the other, for as many rows each."""
    return np.arange(rows) * concepts // rows


def _gradual(rng: Generator, rows: int, concepts: int) -> np.ndarray:
    """The same, handed over bit by bit during the first third of each."""
    place_N = np.arange(rows) * concepts / rows
    old_N = rng.random(rows) > (place_N % 1) * 3
    return np.maximum(place_N.astype(int) - old_N, 0)


def _zipf(rng: Generator, values: int, rows: int) -> np.ndarray:
    """Of so many values the first is common and the last is rare."""
    weight_V = 1 / np.arange(1, values + 1) ** 0.8
    return rng.choice(values, rows, p=weight_V / weight_V.sum())


def _names(prefix: str, at_N: np.ndarray) -> np.ndarray:
    return np.array([f"{prefix}{at}" for at in range(int(at_N.max(initial=0)) + 1)])[at_N]


def _remembering(rng: Generator, rows: int, memory: float, noise: float) -> np.ndarray:
    """An autoregressive series of first order."""
    shock_N, value_N = noise * rng.standard_normal(rows), np.zeros(rows)
    for row in range(1, rows):
        value_N[row] = memory * value_N[row - 1] + shock_N[row]
    return value_N


def write_all(folder: Path, names: Iterable[str], rows: int, seed: int) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.csv" for name in names}
    for name, path in paths.items():
        write_csv(make(name, rows, seed), path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", nargs="*", default=list(STREAMS), metavar="NAME", help=f"of {', '.join(STREAMS)}")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if unknown := sorted(set(options.streams) - set(STREAMS)):
        parser.error(f"no stream is called {', '.join(unknown)}; there are {', '.join(STREAMS)}")
    for name, path in write_all(options.folder, options.streams, options.rows, options.seed).items():
        print(name, path)


if __name__ == "__main__":
    main()
