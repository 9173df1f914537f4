"""From the configuration to the function that builds the module for a number of outputs."""

import importlib
from collections.abc import Callable

from torch import nn

from actors.errors import ConfigError
from actors.learning.models.config import ModelConfig
from actors.learning.models.mlp import MLP

ModuleBuilder = Callable[[int], nn.Module]


def module_builder(config: ModelConfig, inputs: int) -> ModuleBuilder:
    """`build(outputs)` for `inputs` encoded features. Raises ConfigError where a user's factory cannot be used."""
    if config.kind == "linear":
        return lambda outputs: MLP(inputs, outputs)
    if config.kind == "mlp":
        return lambda outputs: MLP(inputs, outputs, tuple(config.hidden))
    assert config.factory is not None
    path, _, name = config.factory.replace(":", ".").rpartition(".")
    try:
        factory = getattr(importlib.import_module(path), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"model.factory {config.factory!r} cannot be imported ({error}). Write it as package.module:function, in a package "
            "that is installed or lies in the working directory, and is not called actors, serve or cluster."
        ) from error

    def build(outputs: int) -> nn.Module:
        module = factory(inputs, outputs, **config.options)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"model.factory {config.factory!r} returned a {type(module).__name__}; it has to be a torch.nn.Module."
            )
        return module

    return build
