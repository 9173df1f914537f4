"""The slow part: a bank of small networks that learn in steps of many rows, new ones and remembered ones.

They differ in what they see (standardised values, or hats of quantiles), in how they step (with and without momentum) and in
what they remember (the latest rows, or a sample of all), for what is right differs between streams; the mixture decides. Their
weights are one flat vector with a layout, as those of any other model, so shards average them as any others. Networks of one
view are stacked and trained by one batched product; the backward pass is written out, which spares autograd's bookkeeping.

Shapes: S networks of a stack, N rows, D inputs, U hidden units, K outputs, P weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import torch
from torch import Tensor

from actors.learning.models.ensemble.targets import ABSOLUTE, CLASSES, SCORES, SQUARED, Targets
from actors.learning.state import Layout, layout_of, relaid

HIDDEN = 64
RECENT, LASTING = "recent", "lasting"
_HIDDEN_LAYERS = ("input", "hidden")


@dataclass(frozen=True, slots=True)
class Body:
    """`memory`: whether it replays the latest rows or a sample of all. A beta1 of 0 is RMSprop, without bias correction."""

    rate: float
    beta1: float
    beta2: float
    memory: str


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    inputs: int
    bodies: tuple[Body, ...]


_STEADY = Body(1e-3, 0.0, 0.99, RECENT)
_LASTING = Body(1e-3, 0.9, 0.999, LASTING)
_QUICK = Body(3e-3, 0.9, 0.999, RECENT)


def stacks_of(inputs: int, hat_inputs: int | None) -> tuple[Stack, ...]:
    """Where hats would be too many, the third network sees standardised values as well."""
    if hat_inputs is None:
        return (Stack("standard", inputs, (_STEADY, _LASTING, _QUICK)),)
    return Stack("standard", inputs, (_STEADY, _LASTING)), Stack("hats", hat_inputs, (_QUICK,))


class Bodies:
    """`load` a version, then `forward` and `step`; the weights are where `flat_P` and `moments` say."""

    def __init__(
        self,
        stacks: tuple[Stack, ...],
        aim: int,
        *,
        seed: int,
        freeze: tuple[str, ...] = (),
        initial: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
    ) -> None:
        self._stacks, self._aim, self._device = stacks, aim, device
        self._seed, self._freeze, self._initial = seed, freeze, dict(initial or {})
        self._laid_out: Layout | None = None
        self.load((), np.zeros(0, np.float32), {}, 0)

    def load(self, layout: Layout, flat_P: np.ndarray, moments: Mapping[str, np.ndarray], outputs: int) -> None:
        """Takes over a version's weights and moments (copied), widened to `outputs`; weights that it lacks start afresh."""
        self._lay_out(layout_of(self._shapes(outputs)) if outputs else ())
        self._flat_P.copy_(torch.from_numpy(np.array(relaid(flat_P, layout, self.layout)) if layout else self._drawn()))
        for name, moment_P in (("exp_avg", self._first_P), ("exp_avg_sq", self._second_P)):
            if layout and name in moments:
                moment_P.copy_(torch.from_numpy(np.array(relaid(moments[name], layout, self.layout))))
            else:
                moment_P.zero_()
        self._steps = float(moments["step"]) if "step" in moments else 0.0

    def _lay_out(self, layout: Layout) -> None:
        """Room for weights, moments and gradients, and views of them by name: made anew only where the layout changes."""
        if layout == self._laid_out:
            return
        self.layout = self._laid_out = layout
        size = layout[-1].stop if layout else 0
        self._flat_P, self._first_P, self._second_P, self._gradient_P = torch.zeros(4, size, device=self._device)
        self._weights, self._gradients = self._views(self._flat_P), self._views(self._gradient_P)
        self._make_settings()

    @property
    def flat_P(self) -> np.ndarray:
        return np.array(self._flat_P.cpu().numpy())

    @property
    def moments(self) -> dict[str, np.ndarray]:
        arrays = {"exp_avg": self._first_P, "exp_avg_sq": self._second_P}
        return {name: a.cpu().numpy().copy() for name, a in arrays.items()} | {"step": np.asarray(self._steps, np.float32)}

    def forward(self, stack: str, x_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [S, N, U] and outputs [S, N, K] of the rows."""
        _, embedding_SNU, out_SNK = self._forward(stack, torch.from_numpy(x_ND).to(self._device)[None])
        return embedding_SNU.cpu().numpy(), out_SNK.cpu().numpy()

    def step(
        self, inputs: Mapping[str, tuple[np.ndarray, list[Targets]]], known_K: np.ndarray, rate_factor: float
    ) -> np.ndarray:
        """One step of every network on x_SND and the S targets of its stack; the losses of the first stack's rows, [S, N]."""
        gradient_P, losses = self._gradient_P.zero_(), []
        known = torch.from_numpy(known_K).to(self._device)
        for name, (x_SND, targets) in inputs.items():
            losses.append(self._backward(name, torch.from_numpy(x_SND).to(self._device), targets, known))
        if self._freeze:
            gradient_P *= self._learned_P
        self._steps += 1.0
        self._first_P.mul_(self._beta1_P).add_(gradient_P * (1.0 - self._beta1_P))
        self._second_P.mul_(self._beta2_P).addcmul_(gradient_P * (1.0 - self._beta2_P), gradient_P)
        first_P = self._first_P / (1.0 - self._beta1_P**self._steps)
        second_P = self._second_P / (1.0 - self._corrected_P * self._beta2_P**self._steps)
        self._flat_P.addcdiv_(first_P * self._rate_P, second_P.sqrt_().add_(1e-8), value=-rate_factor)
        return np.array(losses[0].cpu().numpy())

    def _forward(self, stack: str, x_SND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w = self._weights
        x_SND = x_SND.expand(w[f"{stack}.input.weight"].shape[0], *x_SND.shape[1:])
        first_SNU = torch.baddbmm(w[f"{stack}.input.bias"], x_SND, w[f"{stack}.input.weight"]).relu_()
        second_SNU = torch.baddbmm(w[f"{stack}.hidden.bias"], first_SNU, w[f"{stack}.hidden.weight"]).relu_()
        return first_SNU, second_SNU, torch.baddbmm(w[f"{stack}.output.bias"], second_SNU, w[f"{stack}.output.weight"])

    def _backward(self, stack: str, x_SND: Tensor, targets: list[Targets], known_K: Tensor) -> Tensor:
        first_SNU, second_SNU, out_SNK = self._forward(stack, x_SND)
        gap_SNK, loss_SN = self._gap(out_SNK, targets, known_K)
        weight_SN = torch.from_numpy(np.stack([t.weight_T for t in targets])).to(self._device)
        gap_SNK *= weight_SN[..., None] / x_SND.shape[1]
        w = self._weights
        second_gap_SNU = (gap_SNK @ w[f"{stack}.output.weight"].transpose(1, 2)) * (second_SNU > 0)
        first_gap_SNU = (second_gap_SNU @ w[f"{stack}.hidden.weight"].transpose(1, 2)) * (first_SNU > 0)
        layers = (("output", second_SNU, gap_SNK), ("hidden", first_SNU, second_gap_SNU), ("input", x_SND, first_gap_SNU))
        for layer, below_SNU, above_SNU in layers:
            self._gradients[f"{stack}.{layer}.weight"].copy_(below_SNU.transpose(1, 2) @ above_SNU)
            self._gradients[f"{stack}.{layer}.bias"].copy_(above_SNU.sum(dim=1, keepdim=True))
        return loss_SN

    def _gap(self, out_SNK: Tensor, targets: list[Targets], known_K: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each row's loss by the outputs, and the losses, both before they are weighted."""
        code_SN = torch.from_numpy(np.stack([t.code_T for t in targets])).to(self._device)
        if self._aim == CLASSES:
            log_SNK = torch.log_softmax(out_SNK.masked_fill(~known_K, -1e30), dim=2)
            loss_SN = -log_SNK.gather(2, code_SN[..., None])[..., 0]
            minus_one_SN1 = torch.full((*code_SN.shape, 1), -1.0, device=self._device)
            return log_SNK.exp_().scatter_add_(2, code_SN[..., None], minus_one_SN1), loss_SN
        value_SN = torch.from_numpy(np.stack([t.value_T for t in targets])).to(self._device)
        if self._aim == SCORES:
            is_label_SN1 = value_SN.isnan()[..., None]
            chosen_SNK = torch.nn.functional.one_hot(code_SN, out_SNK.shape[2]).float()
            wanted_SNK = torch.where(is_label_SN1, chosen_SNK, value_SN.nan_to_num()[..., None] * chosen_SNK)
            counts_SNK = torch.where(is_label_SN1, torch.ones_like(chosen_SNK), chosen_SNK)
            p_SNK = out_SNK.sigmoid()
            return (p_SNK - wanted_SNK) * counts_SNK, ((p_SNK - wanted_SNK).square() * counts_SNK).sum(dim=2)
        gap_SN1 = (out_SNK[..., 0] - value_SN)[..., None]
        if self._aim == ABSOLUTE:
            return gap_SN1.sign(), gap_SN1[..., 0].abs()
        assert self._aim == SQUARED
        return 2.0 * gap_SN1, gap_SN1[..., 0].square()

    # --- where each weight lies

    def _shapes(self, outputs: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for stack in self._stacks:
            count = len(stack.bodies)
            for layer, width_in, width_out in (
                ("input", stack.inputs, HIDDEN), ("hidden", HIDDEN, HIDDEN), ("output", HIDDEN, outputs),
            ):  # fmt: skip
                shapes[f"{stack.name}.{layer}.weight"] = (count, width_in, width_out)
                shapes[f"{stack.name}.{layer}.bias"] = (count, 1, width_out)
        return shapes

    def _drawn(self) -> np.ndarray:
        """As torch.nn.Linear draws; zero at the outputs, where classes start; overwritten by `initial` where it fits."""
        rng = np.random.default_rng([self._seed, 1])
        drawn_P = np.zeros(self.layout[-1].stop if self.layout else 0, np.float32)
        for spec in self.layout:
            given = self._initial.get(spec.name)
            if given is not None and tuple(given.shape) == spec.shape:
                drawn_P[spec.start : spec.stop] = np.asarray(given, np.float32).reshape(-1)
            elif spec.name.split(".")[1] in _HIDDEN_LAYERS:
                width = dict((s.name, s.shape) for s in self.layout)[spec.name.replace(".bias", ".weight")][1]
                drawn_P[spec.start : spec.stop] = rng.uniform(-1.0, 1.0, spec.stop - spec.start) / np.sqrt(width)
        return drawn_P

    def _views(self, flat_P: Tensor) -> dict[str, Tensor]:
        return {spec.name: flat_P[spec.start : spec.stop].view(spec.shape) for spec in self.layout}

    def _make_settings(self) -> None:
        """Each weight's step size and betas, for one step of all networks at once."""
        settings_4P = torch.zeros(4, len(self._flat_P))
        views = [self._views(row) for row in settings_4P]
        for stack in self._stacks:
            for spec in self.layout:
                if spec.name.startswith(f"{stack.name}."):
                    for at, body in enumerate(stack.bodies):
                        values = (body.rate, body.beta1, body.beta2, float(body.beta1 > 0))
                        for view, value in zip(views, values, strict=True):
                            view[spec.name][at] = value
        self._rate_P, self._beta1_P, self._beta2_P, self._corrected_P = settings_4P.to(self._device)
        self._learned_P = torch.ones(len(self._flat_P), device=self._device)
        for name, learned in self._views(self._learned_P).items():
            if any(fnmatch(name, pattern) for pattern in self._freeze):
                learned.zero_()
