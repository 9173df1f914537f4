"""A support chatbot that learns from thumbs: it is never told what was wanted, only whether its answer was liked.

python -m examples.chatbot
"""

import sys

import numpy as np

from actors.sources.scenarios.chatbot import ChatbotScenario
from cluster.config import PerennialConfig
from examples.command import main
from examples.scores import share_right
from examples.study import Study, as_told


def intents(config: PerennialConfig, rows: int) -> np.ndarray:
    """What the customers really wanted: the stream's maker knows, the learner never sees it."""
    scenario = ChatbotScenario(config.seed, config.stream.synthetic.drift_every_rows, takes_scores=True)
    return np.array(scenario.intents(0, rows))


STUDY = Study(
    name="chatbot",
    title="Support chatbot: learning from thumbs while the slang shifts",
    question="How many customers are understood? New intents come up, old ones are said in other words.",
    axis="messages understood",
    score=share_right,
    told=as_told,
    window_rows=4_000,
    truth=intents,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
