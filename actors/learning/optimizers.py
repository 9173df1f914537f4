"""Optimizers by name, with their settings as torch names them."""

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from actors.learning.section import Section, setting
from actors.learning.state import Layout

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "NAdam"}


class OptimizerGroup(Section):
    pattern: str = setting(..., "Names of parameters, such as `layers.0.*`.")
    learning_rate: float = setting(..., "Their step size instead.", ge=0)


class OptimizerConfig(Section):
    name: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam"] = setting(
        "rmsprop", "The optimizer, a class of torch.optim."
    )
    learning_rate: float = setting(2e-3, "Step size.", gt=0)
    settings: dict[str, Any] = setting({}, "Further arguments of the torch.optim class, such as {momentum: 0.9}.")
    groups: list[OptimizerGroup] = setting(
        [], "Parameters with a step size of their own (fine-tuning); where several patterns fit, the first counts."
    )


def make_optimizer(config: OptimizerConfig, parameters: list["torch.nn.Parameter"]) -> "torch.optim.Optimizer":
    """Raises ValueError naming `learners.optimizer.settings` where torch refuses them."""
    import torch  # here, because reading a configuration must not cost the import of torch

    settings: dict[str, Any] = {"lr": config.learning_rate, **config.settings}
    if config.name in {"adam", "adamw", "sgd", "adagrad"}:
        settings.setdefault("fused", True)  # one kernel per step instead of a dozen; the flat parameter makes it one tensor
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, _TORCH_NAMES[config.name])(parameters, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"learners.optimizer.settings {config.settings!r} are refused by torch.optim: {error}") from error
    return optimizer


def step_scales(config: OptimizerConfig, layout: Layout) -> np.ndarray | None:
    """float32 [P]: how much longer a weight's step is than one at `learning_rate`; None where all are that long.

    The steps of every optimizer here are in proportion to the learning rate. Raises ValueError for a pattern that fits nothing.
    """
    if not config.groups:
        return None
    names = [spec.name for spec in layout]
    for at, group in enumerate(config.groups):
        if not any(fnmatch(name, group.pattern) for name in names):
            raise ValueError(
                f"learners.optimizer.groups[{at}].pattern {group.pattern!r} fits no learned parameter of this model: {names}"
            )
    scale_P = np.ones(layout[-1].stop, np.float32)
    for spec in layout:
        rates = [group.learning_rate for group in config.groups if fnmatch(spec.name, group.pattern)]
        if rates:
            scale_P[spec.start : spec.stop] = rates[0] / config.learning_rate
    return scale_P
