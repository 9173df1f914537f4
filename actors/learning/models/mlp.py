"""The two simple models: a linear map, and a multi-layer perceptron; both embed categories."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from actors.learning.inputs import InputLayout
from actors.learning.models.categories import MOST_ROWS, InputLayer


class MLP(nn.Module):
    """inputs -> hidden (ReLU) -> ... -> outputs. Without hidden layers it is the linear model.

    Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors". Where there are categories,
    each is a vector of `embedding` numbers beside the others; in the linear model it is what it adds to each output.
    """

    def __init__(
        self,
        inputs: int | InputLayout,
        outputs: int,
        hidden: tuple[int, ...] = (),
        *,
        embedding: int = 16,
        most_rows: int = MOST_ROWS,
    ) -> None:
        super().__init__()
        layout = InputLayout.of(inputs)
        self.inputs: InputLayer | None = None
        width = int(layout)
        if len(layout.category_C):
            self.inputs = InputLayer(layout, embedding if hidden else outputs, most_rows)
            width = self.inputs.width if hidden else len(layout.other_D)
        widths = (width, *hidden, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) if a else _Constant(b) for a, b in pairwise(widths))

    def forward(self, z_ND: Tensor) -> Tensor:
        if self.inputs is not None and len(self.layers) == 1:
            logits: Tensor = self.layers[0](self.inputs.others(z_ND)) + self.inputs.vectors(z_ND).sum(dim=1)
            return logits
        x_NW: Tensor = z_ND if self.inputs is None else self.inputs(z_ND)
        for layer in self.layers[:-1]:
            x_NW = layer(x_NW).relu_()
        logits = self.layers[-1](x_NW)
        return logits


class _Constant(nn.Module):
    """A linear layer of no inputs at all."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x_N0: Tensor) -> Tensor:
        return self.bias.expand(len(x_N0), -1)
