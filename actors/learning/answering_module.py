"""A version as one torch module: encoded features as they are in, probabilities or values out.

What `NetworkReader` does in numpy around the network lies inside, so the module answers without anything else: missing values,
standardisation, clipping, the vectors of ids, the classes that are known, the scale of the label. Shapes: N rows, D encoded
features, K outputs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from actors.errors import ConfigError
from actors.learning.answer import known_classes, outputs_of
from actors.learning.inputs import InputLayout
from actors.learning.models.config import ModelConfig
from actors.learning.models.factory import module_builder
from actors.learning.network import Network
from actors.learning.state import ModelState
from actors.learning.task import TaskConfig, TaskKind

NETWORKS = ("linear", "mlp", "python")  # the kinds that are a torch module and nothing besides


class Standardise(nn.Module):
    """As `InputLayout.standardised`: in float64, float32 out."""

    mean: Tensor
    scale: Tensor
    clip: Tensor

    def __init__(self, state: ModelState, inputs: InputLayout) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(state.features.mean_D.copy()))
        self.register_buffer("scale", torch.from_numpy(state.features.scale_D.copy()))
        self.register_buffer("clip", torch.from_numpy(inputs.clip_D.astype(np.float64)))

    def forward(self, x_ND: Tensor) -> Tensor:
        z_ND = (x_ND.double() - self.mean) / self.scale
        return torch.where(torch.isnan(z_ND), torch.zeros_like(z_ND), z_ND).clamp(-self.clip, self.clip).float()


class Probabilities(nn.Module):
    """Of the classes of which a label has come; the others have probability zero."""

    barred: Tensor

    def __init__(self, known_K: np.ndarray, outputs: int) -> None:
        super().__init__()
        known_K = np.append(known_K, np.zeros(outputs - len(known_K), bool))
        self.register_buffer("barred", torch.from_numpy(np.where(known_K, 0.0, -np.inf).astype(np.float32)))

    def forward(self, out_NK: Tensor) -> Tensor:
        return torch.softmax(out_NK + self.barred, dim=1)


class Choices(nn.Module):
    """With which probability each answer is to be given (epsilon-greedy)."""

    codes: Tensor

    def __init__(self, known: int, exploration: float) -> None:
        super().__init__()
        self.known, self.exploration = known, exploration
        self.register_buffer("codes", torch.arange(known))

    def forward(self, out_NK: Tensor) -> Tensor:
        is_best_NK = out_NK[:, : self.known].argmax(dim=1, keepdim=True) == self.codes
        return is_best_NK.float() * (1.0 - self.exploration) + self.exploration / self.known


class Values(nn.Module):
    """float64 [N], on the scale of the label."""

    mean: Tensor
    scale: Tensor

    def __init__(self, state: ModelState) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(state.target.mean_D.copy()))
        self.register_buffer("scale", torch.from_numpy(state.target.scale_D.copy()))

    def forward(self, out_N1: Tensor) -> Tensor:
        return out_N1[:, 0].double() * self.scale[0] + self.mean[0]


def network_of(
    state: ModelState,
    model: ModelConfig,
    task: TaskConfig,
    inputs: InputLayout,
    *,
    seed: int,
    initial: Mapping[str, np.ndarray] | None = None,
) -> nn.Module:
    """The version's own network, with what is frozen. Raises ConfigError where it is more than a network, or knows nothing."""
    if model.kind not in NETWORKS:
        raise ConfigError(
            f"version {state.version} is of model.kind {model.kind}, which remembers rows and is no single network: it can be "
            f"exported as safetensors (--format safetensors); as torchscript or onnx only {', '.join(NETWORKS)} can"
        )
    known_K = known_classes(state.class_counts_K, task)
    if not state.layout or not (task.kind is TaskKind.REGRESSION or known_K.any()):
        raise ConfigError(f"version {state.version} has learned no label yet, so there is nothing to export; take a newer one")
    build = module_builder(model, inputs)
    grows = task.kind is not TaskKind.REGRESSION
    network = Network(build, freeze=tuple(model.freeze), initial=initial, seed=seed, grows=grows)
    network.load(state.layout, state.flat_P, state.buffers, outputs_of(state, task))
    module = network.module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def answering_module(network: nn.Module, state: ModelState, task: TaskConfig, inputs: InputLayout) -> nn.Sequential:
    """float32 [N, D], NaN where a value is missing, to what `NetworkReader` answers: probabilities [N, K], or values [N]."""
    known_K = known_classes(state.class_counts_K, task)
    answer: nn.Module
    match task.kind:
        case TaskKind.REGRESSION:
            answer = Values(state)
        case TaskKind.FEEDBACK:
            answer = Choices(len(known_K), task.exploration)
        case _:
            answer = Probabilities(known_K, outputs_of(state, task))
    return nn.Sequential(Standardise(state, inputs), network, answer).eval()
