"""The two simple models: a linear map, and a multi-layer perceptron."""

from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """inputs -> hidden (ReLU) -> ... -> outputs. Without hidden layers it is the linear model.

    Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors".
    """

    def __init__(self, inputs: int, outputs: int, hidden: tuple[int, ...] = ()) -> None:
        super().__init__()
        widths = (inputs, *hidden, outputs)
        self.layers = nn.ModuleList(nn.Linear(width_in, width_out) for width_in, width_out in pairwise(widths))

    def forward(self, x_ND: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x_ND = layer(x_ND).relu_()
        logits: Tensor = self.layers[-1](x_ND)
        return logits
