"""Messages to a shop's support, and what they want; the slang shifts and new wishes come up.

Every intent is said in four ways that take turns, period after period; it starts with eight intents and gets one more in each
of the next four periods. Messages come with greetings, order numbers, capitals and typing errors.

Where scores are learned instead of labels, the log of an older bot is what there is: it knows the first way of saying things,
guesses at the rest, and answers with a random intent in three of ten cases. Users thumb it up or down, not always rightly;
one message in twenty goes to an agent, who notes the right intent.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.sources.scenarios.chatbot_phrases import ENDINGS, OPENINGS, PHRASES
from actors.sources.scenarios.draws import even
from actors.sources.scenarios.scenario import BLOCK_ROWS, Block, period_of, rows_of, words
from actors.sources.source import Scored

INTENTS = tuple(PHRASES)
FIRST_INTENTS = 8
_WAYS = 4
_OLD_WAY = 0.12  # how often somebody still speaks as one did before
_TYPO = 0.15
_CHANNELS = ("web", "app", "mail")
EXPLORES = 0.3  # of the old bot's answers, drawn evenly from all
_AGENT = 0.05
_RIGHT_THUMB, _WRONG_THUMB = 0.95, 0.04  # how often a right and a wrong answer is thumbed up
_STARTS, _GUESS = 60, 61


class ChatbotScenario:
    def __init__(self, seed: int, every: int, *, takes_scores: bool) -> None:
        self._seed, self._every, self._takes_scores = seed, every, takes_scores

    def block(self, number: int) -> Block:
        rng, row_N = np.random.default_rng([self._seed, number]), rows_of(number)
        period_N, taken_over_N = period_of(row_N, self._every)
        known_N = self.known_intents(row_N)
        intent_N = (known_N * rng.random(BLOCK_ROWS) ** 1.2).astype(np.int64)
        turn_N = period_N + (rng.random(BLOCK_ROWS) < taken_over_N)
        turn_N = np.where(rng.random(BLOCK_ROWS) < _OLD_WAY, (turn_N * rng.random(BLOCK_ROWS)).astype(np.int64), turn_N)
        first_N = (even(self._seed, _STARTS, intent_N) * 2).astype(np.int64)  # half of them are a turn ahead
        way_N = np.where(turn_N == 0, 0, (turn_N + first_N) % _WAYS)
        features = {
            "message": pa.array(_messages(intent_N, way_N, rng)),
            "channel": words(_CHANNELS, np.searchsorted([0.5, 0.85], rng.random(BLOCK_ROWS))),
        }
        if not self._takes_scores:
            return Block(features, words(INTENTS, intent_N))
        given_N, scored = self._log(intent_N, way_N, known_N, rng)
        return Block(features, words(INTENTS, given_N), scored)

    def known_intents(self, row_N: np.ndarray) -> np.ndarray:
        """How many intents there are."""
        return np.asarray(np.minimum(FIRST_INTENTS + row_N // self._every, len(INTENTS)))

    def intents(self, start: int, stop: int) -> list[str]:
        """What the messages of these rows want, whatever was answered."""
        truth = ChatbotScenario(self._seed, self._every, takes_scores=False)
        found: list[str] = []
        for number in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            found += truth.block(number).label.to_pylist()
        first = start // BLOCK_ROWS * BLOCK_ROWS
        return found[start - first : stop - first]

    def _log(
        self, intent_N: np.ndarray, way_N: np.ndarray, known_N: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[Scored | None, ...]]:
        """The old bot's answers, or the agents', and what they were worth."""
        wrong_N = (even(self._seed, _GUESS, intent_N, way_N) * FIRST_INTENTS).astype(np.int64)
        guess_N = np.where((way_N == 0) & (intent_N < FIRST_INTENTS), intent_N, wrong_N)
        explores_N = rng.random(BLOCK_ROWS) < EXPLORES
        given_N = np.where(explores_N, (rng.random(BLOCK_ROWS) * known_N).astype(np.int64), guess_N)
        propensity_N = EXPLORES / known_N + np.where(given_N == guess_N, 1.0 - EXPLORES, 0.0)
        likes_N = rng.random(BLOCK_ROWS) < np.where(given_N == intent_N, _RIGHT_THUMB, _WRONG_THUMB)
        is_agent_N = rng.random(BLOCK_ROWS) < _AGENT
        scored = tuple(
            None if is_agent else Scored(float(likes), float(propensity), 0)
            for is_agent, likes, propensity in zip(is_agent_N, likes_N, propensity_N, strict=True)
        )
        return np.where(is_agent_N, intent_N, given_N), scored


def _messages(intent_N: np.ndarray, way_N: np.ndarray, rng: np.random.Generator) -> list[str]:
    drawn_5N = rng.random((5, BLOCK_ROWS))
    order_N = rng.integers(10_000, 100_000, BLOCK_ROWS).tolist()
    messages = []
    for i, (intent, way) in enumerate(zip(intent_N.tolist(), way_N.tolist(), strict=True)):
        phrase = _one_of(PHRASES[INTENTS[intent]][way], drawn_5N[0, i])
        ending = _one_of(ENDINGS, drawn_5N[1, i]).format(number=order_N[i])
        text = " ".join(part for part in (_one_of(OPENINGS, drawn_5N[2, i]), phrase, ending) if part)
        if drawn_5N[3, i] < _TYPO:
            text = _with_typo(text, drawn_5N[4, i])
        messages.append(text.upper() if drawn_5N[4, i] < 0.03 else text.capitalize() if drawn_5N[4, i] < 0.3 else text)
    return messages


def _one_of(choices: Sequence[str], drawn: float) -> str:
    return choices[int(drawn * len(choices))]


def _with_typo(text: str, drawn: float) -> str:
    """Two neighbouring characters change places, or one is missing."""
    at = int(drawn * (len(text) - 1))
    return text[:at] + text[at + 1] + (text[at] if at % 2 else "") + text[at + 2 :]
