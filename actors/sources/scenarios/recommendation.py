"""What is shown to whom, and whether it is clicked; new items come in all the time and tastes shift.

A click is the more likely the better the item's traits fit the user's taste, the better the item is, and the higher up it was
shown (matrix factorisation: Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009,
with biases, and tastes that move). Only ids tell users and items apart; the genre is a hint. Quirks: a few users and items
make up most rows, everybody is new at first, and the position biases the clicks.
"""

import numpy as np
import pyarrow as pa

from actors.sources.scenarios.draws import even, normal
from actors.sources.scenarios.scenario import BLOCK_ROWS, Block, generation_of, names, period_of, rows_of, words

_USERS, _ITEMS, _TRAITS = 300, 200, 3
_GENRES = ("drama", "comedy", "thriller", "documentary", "family", "sports", "science fiction", "music")
_DEVICES = ("phone", "tv", "tablet", "web")
_DEVICE_EFFECT = np.array([0.2, 0.0, -0.1, -0.3])
_OFTEN = -1.0  # the log-odds of a click that nothing speaks for or against
_FIT, _QUALITY, _TREND, _PER_POSITION = 1.3, 0.7, 0.7, 0.12
# What is drawn, for a user, an item or a genre.
_TASTE, _TRAIT, _OF_GENRE, _GOOD, _FASHION, _GENRE, _LIFE, _PHASE, _DEVICE, _SHIFT = range(20, 30)


class RecommendationScenario:
    def __init__(self, seed: int, every: int) -> None:
        self._seed, self._every = seed, every

    def block(self, number: int) -> Block:
        rng, row_N = np.random.default_rng([self._seed, number]), rows_of(number)
        user_N = self._who(row_N, (_USERS * rng.random(BLOCK_ROWS) ** 1.8).astype(np.int64), life=8.0)
        item_N = self._who(row_N, 5000 + (_ITEMS * rng.random(BLOCK_ROWS) ** 1.8).astype(np.int64), life=1.2)
        genre_N = (even(self._seed, _GENRE, item_N) * len(_GENRES)).astype(np.int64)
        usual_N = (even(self._seed, _DEVICE, user_N) * len(_DEVICES)).astype(np.int64)
        device_N = np.where(rng.random(BLOCK_ROWS) < 0.8, usual_N, rng.integers(len(_DEVICES), size=BLOCK_ROWS))
        position_N = rng.integers(1, 11, BLOCK_ROWS)
        hour_N = (19.5 + 4.0 * rng.standard_normal(BLOCK_ROWS)) % 24

        log_odds_N = (
            _OFTEN
            + _FIT * (self._tastes(row_N, user_N) * self._traits(item_N, genre_N)).sum(axis=1)
            + _QUALITY * normal(self._seed, _GOOD, item_N)
            + _TREND * self._fashion(row_N, genre_N)
            + _DEVICE_EFFECT[device_N]
            - _PER_POSITION * (position_N - 1)
        )
        is_click_N = rng.random(BLOCK_ROWS) < 1.0 / (1.0 + np.exp(-log_odds_N))
        features = {
            "user": names("u", user_N),
            "item": names("i", item_N),
            "genre": words(_GENRES, genre_N),
            "device": words(_DEVICES, device_N),
            "position": pa.array(position_N),
            "hour": pa.array(np.round(hour_N, 2)),
        }
        return Block(features, pa.array(is_click_N.astype(np.int64)))

    def _who(self, row_N: np.ndarray, slot_N: np.ndarray, life: float) -> np.ndarray:
        life_N = life * self._every * (0.5 + even(self._seed, _LIFE, slot_N))
        return generation_of(row_N, slot_N, even(self._seed, _PHASE, slot_N), life_N)

    def _tastes(self, row_N: np.ndarray, user_N: np.ndarray) -> np.ndarray:
        """[N, traits]: every user's taste turns into another one every second period, half of them at a time."""
        period_N, taken_over_N = period_of(row_N, self._every)
        turn_N = period_N + (even(self._seed, _SHIFT, user_N) < 0.5)
        trait_T = np.arange(_TRAITS)
        now_NT = normal(self._seed, _TASTE, user_N[:, None], turn_N[:, None] // 2, trait_T)
        next_NT = normal(self._seed, _TASTE, user_N[:, None], (turn_N[:, None] + 1) // 2, trait_T)
        return np.asarray(now_NT + taken_over_N[:, None] * (next_NT - now_NT))

    def _traits(self, item_N: np.ndarray, genre_N: np.ndarray) -> np.ndarray:
        """[N, traits]: mostly the genre's, partly the item's own."""
        trait_T = np.arange(_TRAITS)
        of_genre_NT = normal(self._seed, _OF_GENRE, genre_N[:, None], trait_T)
        return np.asarray(0.8 * of_genre_NT + 0.6 * normal(self._seed, _TRAIT, item_N[:, None], trait_T))

    def _fashion(self, row_N: np.ndarray, genre_N: np.ndarray) -> np.ndarray:
        period_N, taken_over_N = period_of(row_N, self._every)
        now_N = normal(self._seed, _FASHION, genre_N, period_N)
        return np.asarray(now_N + taken_over_N * (normal(self._seed, _FASHION, genre_N, period_N + 1) - now_N))
