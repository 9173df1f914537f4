"""Online elastic weight consolidation: weights that mattered are held where they were.

Schwarz et al. (2018), "Progress & compress: a scalable framework for continual learning", section 3.2, equation 9: one penalty
around the newest anchor, with importances F <- decay * F + F(what came since the anchor before). F is the diagonal of the
Fisher information: the mean over rows of the squared gradient of the loss, for labels drawn as the model expects them. It is
taken before the rows are learned: of rows that are known by heart nothing matters. Shapes: P weights, R rows, K outputs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from actors.learning.network import Network
from actors.learning.regularizers.anchor import Anchor
from actors.learning.regularizers.config import EwcConfig
from actors.learning.row_losses import Targets, row_losses
from actors.learning.state import Layout, ModelState, relaid
from actors.learning.task import TaskConfig, TaskKind

FISHER, RECENT, RECENT_ROWS = "fisher", "recent_fisher", "recent_fisher_rows"


class ElasticWeights:
    """`begin` with a version; `weigh` rows before they are learned; `add_gradient` in every step; `tied` at the end."""

    def __init__(self, config: EwcConfig, learning_rate: float) -> None:
        self.config, self._most = config, 1.0 / learning_rate

    def begin(self, state: ModelState) -> None:
        self._layout, self._anchor = state.layout, Anchor.of(state, self.config.anchor_rows)
        none_P = np.zeros(len(state.flat_P), np.float32)
        self._fisher_P, self._recent_P = state.tied.get(FISHER, none_P), state.tied.get(RECENT, none_P)
        self._recent_rows = int(state.tied.get(RECENT_ROWS, 0))
        if self._anchor is not None and self._anchor.is_new:
            self._fisher_P = np.float32(self.config.decay) * self._fisher_P + self._recent_P
            self._recent_P, self._recent_rows = none_P, 0
        self._pull: tuple[Layout, Tensor, Tensor] | None = None

    def add_gradient(self, flat_P: Tensor, gradient_P: Tensor, layout: Layout) -> None:
        """Of strength / 2 * sum of F * (weight - anchor)^2, no weight being pulled so hard that it would pass the anchor."""
        if self._anchor is None:
            return
        if self._pull is None or self._pull[0] != layout:
            anchor_P, fisher_P = (relaid(each, self._layout, layout) for each in (self._anchor.flat_P, self._fisher_P))
            pull_P = torch.from_numpy(np.minimum(self.config.strength * fisher_P, self._most).astype(np.float32)).to(
                flat_P.device
            )
            self._pull = layout, torch.from_numpy(anchor_P.copy()).to(flat_P.device), pull_P
        _, at_P, pull_P = self._pull
        gradient_P.addcmul_(pull_P, flat_P - at_P)

    def weigh(self, network: Network, z_RD: Tensor, task: TaskConfig, rng: np.random.Generator) -> None:
        """Takes in what rows of the stream, standardised, tell of the version's weights. The module is in evaluation mode."""
        fisher_P, rows = fisher_diagonal(network, z_RD, task, rng), len(z_RD)
        self._recent_rows += rows
        self._recent_P = self._recent_P + np.float32(rows / self._recent_rows) * (fisher_P - self._recent_P)

    def tied(self, layout: Layout) -> Mapping[str, np.ndarray]:
        """The state of a version with `layout`."""
        if not layout:
            return {}
        anchor = self._anchor.to_tied(layout) if self._anchor is not None else {}
        fisher_P, recent_P = (relaid(each, self._layout, layout) for each in (self._fisher_P, self._recent_P))
        return {**anchor, FISHER: fisher_P, RECENT: recent_P, RECENT_ROWS: np.array(self._recent_rows, np.int64)}


_MOST_VALUES = 4_000_000  # gradients at once, of all rows together


def fisher_diagonal(network: Network, z_RD: Tensor, task: TaskConfig, rng: np.random.Generator) -> np.ndarray:
    """float32 [P]. Needs a module whose rows do not depend on one another, which is what one in evaluation mode should be."""
    module, layout = network.module, network.layout
    weights = dict(module.named_parameters())
    learned = {spec.name: weights[spec.name].detach() for spec in layout}
    fixed = {name: weight.detach() for name, weight in weights.items() if name not in learned} | dict(module.named_buffers())
    with torch.no_grad():
        targets = _drawn(network(z_RD), task, rng)

    def row_loss(learned: Mapping[str, Tensor], z_D: Tensor, *target: Tensor) -> Tensor:
        out_1K = functional_call(module, {**learned, **fixed}, (z_D[None],))
        return row_losses(out_1K, tuple(each[None] for each in target), task)[0]

    gradients_of = vmap(grad(row_loss), in_dims=(None, 0, *(0 for _ in targets)), randomness="different")
    rows_at_once = max(1, _MOST_VALUES // max(1, layout[-1].stop))
    total_P = torch.zeros(layout[-1].stop, device=z_RD.device)
    for start in range(0, len(z_RD), rows_at_once):
        part = slice(start, start + rows_at_once)
        gradients = gradients_of(learned, z_RD[part], *(each[part] for each in targets))
        total_P += torch.cat([gradients[spec.name].square().sum(dim=0).reshape(-1) for spec in layout])
    return (total_P / len(z_RD)).cpu().numpy()


def _drawn(out_RK: Tensor, task: TaskConfig, rng: np.random.Generator) -> Targets:
    """Labels as likely as the model takes them to be; a number lies around its estimate with the spread of all labels."""
    out = out_RK.cpu().numpy().astype(np.float64)
    match task.kind:
        case TaskKind.REGRESSION:
            found: np.ndarray = out[:, 0] + rng.normal(size=len(out))
            return (torch.from_numpy(found.astype(np.float32)).to(out_RK.device),)
        case TaskKind.FEEDBACK:
            score_RK = rng.random(out.shape) < 1 / (1 + np.exp(-out))
            scores = torch.from_numpy(score_RK.astype(np.float32)).to(out_RK.device)
            return scores, torch.ones_like(scores)
        case _:
            code_R = (out + rng.gumbel(size=out.shape)).argmax(axis=1)  # a draw from the softmax
            return (torch.from_numpy(code_R).to(out_RK.device),)
