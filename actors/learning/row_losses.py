"""The loss of every row by itself, for weighted and remembered rows. Shapes: N rows, K outputs."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from actors.learning.labels import feedback_targets
from actors.learning.running_stats import RunningStats
from actors.learning.task import TaskConfig, TaskKind

Targets = tuple[Tensor, ...]


def targets_of(y_N: np.ndarray, outputs: int, target: RunningStats, task: TaskConfig, device: str) -> Targets:
    """Labels as tensors: class codes, standardised numbers, or the scores of answers and what each counts."""
    match task.kind:
        case TaskKind.REGRESSION:
            return (torch.from_numpy(target.standardise(y_N[:, None])[:, 0]).to(device),)
        case TaskKind.FEEDBACK:
            target_NK, weight_NK = feedback_targets(y_N, outputs)
            return torch.from_numpy(target_NK).to(device), torch.from_numpy(weight_NK).to(device)
        case _:
            return (torch.from_numpy(np.ascontiguousarray(y_N)).to(device),)


def row_losses(out_NK: Tensor, targets: Targets, task: TaskConfig) -> Tensor:
    """[N]: what `mean_loss` is the mean of."""
    match task.kind:
        case TaskKind.REGRESSION:
            loss_of = functional.mse_loss if task.loss == "squared" else functional.l1_loss
            return loss_of(out_NK[:, 0], targets[0], reduction="none")
        case TaskKind.FEEDBACK:
            return functional.binary_cross_entropy_with_logits(out_NK, targets[0], targets[1], reduction="none").sum(dim=1)
        case _:
            return functional.cross_entropy(out_NK, targets[0], reduction="none")


def mean_loss(out_NK: Tensor, targets: Targets, task: TaskConfig) -> Tensor:
    """One number, in as few kernels as there can be."""
    match task.kind:
        case TaskKind.REGRESSION:
            loss_of = functional.mse_loss if task.loss == "squared" else functional.l1_loss
            return loss_of(out_NK[:, 0], targets[0])
        case TaskKind.FEEDBACK:
            return row_losses(out_NK, targets, task).mean()
        case _:
            return functional.cross_entropy(out_NK, targets[0])
