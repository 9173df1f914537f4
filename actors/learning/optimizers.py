"""Optimizers by name, with their settings as torch names them."""

from typing import TYPE_CHECKING, Any, Literal

from actors.learning.section import Section, setting

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "NAdam"}


class OptimizerConfig(Section):
    name: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "nadam"] = setting(
        "rmsprop", "The optimizer, a class of torch.optim."
    )
    learning_rate: float = setting(2e-3, "Step size.", gt=0)
    settings: dict[str, Any] = setting({}, "Further arguments of the torch.optim class, such as {momentum: 0.9}.")


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
