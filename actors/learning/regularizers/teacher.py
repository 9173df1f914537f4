"""Learning without forgetting: an older version goes on teaching what it knew.

Li and Hoiem (2018), "Learning without forgetting", IEEE TPAMI 40(12), equations 2 and 3, on the rows that are learned now.
It is shown the rows as they are standardised now. Shapes: N rows, K outputs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actors.learning.network import Network
from actors.learning.regularizers.anchor import Anchor
from actors.learning.regularizers.config import LwfConfig
from actors.learning.state import Layout, ModelState
from actors.learning.task import TaskKind


class Teacher:
    """`begin` with a version; `loss` in every step; `tied` is what the next version has of it."""

    def __init__(self, config: LwfConfig, network: Network, kind: TaskKind) -> None:
        """`network`: one of its own, of the same architecture as that of the learner."""
        self._config, self._network, self._kind = config, network, kind
        self._anchor: Anchor | None = None

    def begin(self, state: ModelState, outputs: int) -> None:
        """`outputs` is how many the version's network has."""
        self._anchor = Anchor.of(state, self._config.anchor_rows)
        if self._anchor is not None:
            self._network.load(state.layout, self._anchor.flat_P, state.buffers, outputs)
            self._network.module.eval()

    def loss(self, z_ND: Tensor, out_NK: Tensor) -> Tensor | None:
        if self._anchor is None:
            return None
        with torch.no_grad():
            taught_NK = self._network(z_ND)[:, : self._anchor.outputs]
        out_NK = out_NK[:, : self._anchor.outputs]
        strength, temperature = self._config.strength, self._config.temperature
        if self._kind is TaskKind.REGRESSION:
            return strength * functional.mse_loss(out_NK, taught_NK)
        if self._kind is TaskKind.FEEDBACK:  # each output is the estimated score of one answer
            scores_NK = torch.sigmoid(taught_NK / temperature)
            told = functional.binary_cross_entropy_with_logits(out_NK / temperature, scores_NK, reduction="none")
            return strength * temperature**2 * told.sum(dim=1).mean()
        taught = functional.log_softmax(taught_NK / temperature, dim=1)
        learned = functional.log_softmax(out_NK / temperature, dim=1)
        return strength * temperature**2 * functional.kl_div(learned, taught, reduction="batchmean", log_target=True)

    def tied(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {} if self._anchor is None else self._anchor.to_tied(layout)
