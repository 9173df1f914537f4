"""From the configuration to the function that builds the module for a number of outputs."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from actors.errors import ConfigError
from actors.learning.inputs import BUCKETS, InputLayout
from actors.learning.models.config import ModelConfig
from actors.learning.models.mlp import MLP

ModuleBuilder = Callable[[int], nn.Module]


def module_builder(config: ModelConfig, inputs: int | InputLayout) -> ModuleBuilder:
    """`build(outputs)` for rows of `inputs`. Raises ConfigError where a user's factory cannot be used.

    A module of the user's takes in numbers alone: for it each category is spread over 32 dimensions.
    """
    layout = InputLayout.of(inputs)
    if config.kind != "python":
        hidden = () if config.kind == "linear" else tuple(config.hidden)
        return lambda outputs: MLP(layout, outputs, hidden, embedding=config.embedding_size, most_rows=config.embedding_rows)
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
        module = factory(layout.expanded_width(), outputs, **config.options)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"model.factory {config.factory!r} returned a {type(module).__name__}; it has to be a torch.nn.Module."
            )
        if len(layout.category_C):
            module.register_forward_pre_hook(lambda _, given: (expanded(given[0], layout), *given[1:]))
        return module

    return build


def expanded(z_ND: Tensor, layout: InputLayout) -> Tensor:
    """[N, E] of numbers alone: all but the ids in their order, then for each id `BUCKETS` dimensions of which one is 1.

    All of them are 0 where it is missing.
    """
    id_NC = z_ND[:, torch.from_numpy(layout.category_C).to(z_ND.device)].long()
    bucket_B = torch.arange(BUCKETS, device=z_ND.device)
    spread_NCB = (id_NC.unsqueeze(2) % BUCKETS == bucket_B) & (id_NC.unsqueeze(2) > 0)
    other_ND = z_ND[:, torch.from_numpy(layout.other_D).to(z_ND.device)]
    return torch.cat([other_ND, spread_NCB.flatten(1).to(z_ND.dtype)], dim=1)
