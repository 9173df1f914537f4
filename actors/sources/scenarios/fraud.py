"""Card payments, of which 0.5 % are fraud; the fraudsters change their tactics.

A tactic is a set of habits: which shops, which channel, which amounts, at what time, with young accounts or taken-over ones,
near or far from the last payment. Each fraud shows some of them and looks like an honest payment otherwise. Shops come and
go. Quirks as in life: the distance is often not known, the rate of fraud swings, one fraud in 25 is never reported.
"""

import numpy as np
import pyarrow as pa

from actors.sources.scenarios.draws import even, normal
from actors.sources.scenarios.scenario import BLOCK_ROWS, Block, generation_of, names, period_of, rows_of, words

RATE = 0.005
_UNREPORTED = 0.04
_HABIT = 0.8  # how often a fraud shows each habit of its tactic
_SHOPS, _MULES = 400, 8
_NO_DISTANCE = 0.08
_KINDS = (
    "groceries", "fuel", "restaurant", "fashion", "electronics", "travel", "gaming", "giftcards", "pharmacy", "furniture",
    "streaming", "jewellery",
)  # fmt: skip
_COUNTRIES = (
    "DE", "FR", "IT", "ES", "PL", "NL", "AT", "CZ", "SE", "PT", "GB", "US", "TR", "BR", "IN", "NG", "RO", "UA", "TH", "MX",
)  # fmt: skip
_CHANNELS = ("chip", "contactless", "online", "magstripe")
_TYPICAL_AMOUNT = np.array([35.0, 55, 40, 70, 180, 320, 25, 50, 22, 240, 12, 260])
# What is drawn, for a shop or for a tactic.
_KIND, _COUNTRY, _PRICE, _LIFE, _PHASE, _MULE, _CHANNEL, _AMOUNT, _HOUR, _AGE, _DISTANCE = range(11)


class FraudScenario:
    def __init__(self, seed: int, every: int) -> None:
        self._seed, self._every = seed, every

    def block(self, number: int) -> Block:
        rng, row_N = np.random.default_rng([self._seed, number]), rows_of(number)
        period_N, taken_over_N = period_of(row_N, self._every)
        tactic_N = period_N + (rng.random(BLOCK_ROWS) < taken_over_N)
        swing_N = 1.0 + 0.4 * np.sin(2 * np.pi * row_N / (0.7 * self._every))
        is_fraud_N = rng.random(BLOCK_ROWS) < RATE * swing_N / (1 - _UNREPORTED)
        shows_HN = is_fraud_N & (rng.random((6, BLOCK_ROWS)) < _HABIT)

        slot_N = (_SHOPS * rng.random(BLOCK_ROWS) ** 2.5).astype(np.int64)
        slot_N = np.where(shows_HN[0], self._mule(tactic_N, rng.integers(_MULES, size=BLOCK_ROWS)), slot_N)
        shop_N = self._shop(row_N, slot_N)
        kind_N = (even(self._seed, _KIND, shop_N) ** 1.3 * len(_KINDS)).astype(np.int64)
        country_N = (even(self._seed, _COUNTRY, shop_N) ** 2 * len(_COUNTRIES)).astype(np.int64)
        channel_N = np.searchsorted([0.35, 0.65, 0.97], rng.random(BLOCK_ROWS))
        channel_N = np.where(shows_HN[1], (even(self._seed, _CHANNEL, tactic_N) * 4).astype(np.int64), channel_N)

        price_N = _TYPICAL_AMOUNT[kind_N] * np.exp(0.4 * normal(self._seed, _PRICE, shop_N))
        amount_N = price_N * np.exp(0.6 * rng.standard_normal(BLOCK_ROWS))
        amount_N = np.where(shows_HN[2], self._amounts(tactic_N, amount_N, rng), amount_N)
        hour_N = (13.5 + 4.2 * rng.standard_normal(BLOCK_ROWS)) % 24
        habit_hour_N = 24 * even(self._seed, _HOUR, tactic_N) + 1.5 * rng.standard_normal(BLOCK_ROWS)
        hour_N = np.where(shows_HN[3], habit_hour_N % 24, hour_N)
        age_N = rng.gamma(1.5, 600.0, BLOCK_ROWS)
        takes_over_N = even(self._seed, _AGE, tactic_N) < 0.5
        age_N = np.where(shows_HN[4], np.where(takes_over_N, 1500 + age_N, 30 * rng.random(BLOCK_ROWS)), age_N)
        distance_N = rng.gamma(0.8, 20.0, BLOCK_ROWS)
        far_N = np.where(even(self._seed, _DISTANCE, tactic_N) < 0.6, 400 + 60 * distance_N, 0.05 * distance_N)
        distance_N = np.where(shows_HN[5], far_N, distance_N)

        is_reported_N = is_fraud_N & (rng.random(BLOCK_ROWS) >= _UNREPORTED)
        has_no_distance_N = rng.random(BLOCK_ROWS) < _NO_DISTANCE
        features = {
            "amount": pa.array(np.round(amount_N, 2)),
            "hour": pa.array(np.round(hour_N, 2)),
            "account_days": pa.array(age_N.astype(np.int64)),
            "distance_km": pa.array(np.round(distance_N, 1), mask=has_no_distance_N),
            "channel": words(_CHANNELS, channel_N),
            "kind": words(_KINDS, kind_N),
            "country": words(_COUNTRIES, country_N),
            "merchant": names("m", shop_N),
        }
        return Block(features, pa.array(is_reported_N.astype(np.int64)))

    def _shop(self, row_N: np.ndarray, slot_N: np.ndarray) -> np.ndarray:
        life_N = self._every * (1.0 + 4.0 * even(self._seed, _LIFE, slot_N))
        return generation_of(row_N, slot_N, even(self._seed, _PHASE, slot_N), life_N)

    def _mule(self, tactic_N: np.ndarray, which_N: np.ndarray) -> np.ndarray:
        """The shops of a tactic: few, and not among the best known."""
        return np.asarray(_SHOPS * (0.2 + 0.8 * even(self._seed, _MULE, tactic_N, which_N))).astype(np.int64)

    def _amounts(self, tactic_N: np.ndarray, honest_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Trying the card out, staying below a limit, round sums, or simply much."""
        trials_N = 0.5 + 2.5 * rng.random(BLOCK_ROWS)
        below_limit_N = 99.0 - 6.0 * rng.random(BLOCK_ROWS)
        round_N = 100.0 * rng.integers(2, 8, BLOCK_ROWS)
        style_N = (even(self._seed, _AMOUNT, tactic_N) * 4).astype(np.int64)
        return np.choose(style_N, [trials_N, below_limit_N, round_N, 6.0 * honest_N])
