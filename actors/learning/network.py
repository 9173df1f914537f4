"""A torch module whose learned weights are one flat vector.

One vector makes an optimizer step a single kernel, a version a single array, and consolidation a single sum. The
module's parameters are views into it, so its forward and backward pass are torch's own.
"""

from collections.abc import Mapping
from fnmatch import fnmatch

import numpy as np
import torch
from torch import Tensor, nn

from actors.learning.models.categories import InputLayer
from actors.learning.models.factory import ModuleBuilder
from actors.learning.state import Layout, is_hashed, layout_of, relaid


class Network:
    """The module for `outputs` outputs; `grow` widens it when classes appear.

    Weights that exist because of a class (their shape follows the number of outputs) start at zero; all others start
    as the module draws them under `seed`, overwritten by `initial` where name and shape fit.
    """

    def __init__(
        self,
        build: ModuleBuilder,
        *,
        freeze: tuple[str, ...] = (),
        initial: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        grows: bool = True,
        device: str = "cpu",
    ) -> None:
        self._build, self._freeze, self._initial = build, freeze, dict(initial or {})
        self._seed, self._device = seed, device
        self._per_class = self._names_that_follow_outputs() if grows else frozenset[str]()
        self.clear()

    def clear(self) -> None:
        """Back to where no label has come yet."""
        self.outputs = 0
        self.layout: Layout = ()
        self.module: nn.Module = nn.Identity()
        self.flat = nn.Parameter(torch.zeros(0, device=self._device))

    @property
    def wants_to_grow(self) -> bool:
        """Whether so many categories have come that their tables should be larger."""
        now = _rows_of(self.layout)
        return any(rows > now.get(name, rows) for name, rows in self._rows_wanted().items())

    def resize(self, outputs: int, rows: Mapping[str, int] | None = None) -> None:
        """A module of `outputs` outputs that keeps what the present one has learned.

        `rows` of each table of categories; None: what is wanted.
        """
        old_layout, old_P, old_buffers = self.layout, self.flat.detach().cpu().numpy(), dict(self.module.named_buffers())
        module = self._fresh_module(outputs)
        _resize_tables(module, self._rows_wanted() if rows is None else rows)
        parameters = dict(module.named_parameters())
        learned = {n: p for n, p in parameters.items() if not any(fnmatch(n, pattern) for pattern in self._freeze)}
        if not learned:
            raise ValueError(f"model.freeze {list(self._freeze)} leaves nothing to learn of {sorted(parameters)}")
        for name in parameters.keys() - learned.keys():
            parameters[name].requires_grad_(False)
        self.layout = layout_of({name: tuple(p.shape) for name, p in learned.items()})
        with torch.no_grad():
            flat_P = torch.cat([p.detach().reshape(-1) for p in learned.values()]).cpu().numpy()
        if old_layout:
            # Only what is new keeps its fresh value (zero for a class): all that was learned stays.
            kept_P = relaid(np.ones_like(old_P), old_layout, self.layout) > 0
            flat_P = np.where(kept_P, relaid(old_P, old_layout, self.layout), flat_P)
        for name, buffer in module.named_buffers():
            if name in old_buffers and old_buffers[name].shape == buffer.shape:
                buffer.copy_(old_buffers[name])
        self.module, self.outputs = module, outputs
        self.flat = nn.Parameter(torch.from_numpy(flat_P.copy()).to(self._device))
        self.flat.grad = torch.zeros_like(self.flat)
        for spec, parameter in zip(self.layout, learned.values(), strict=True):
            parameter.data = self.flat.data[spec.start : spec.stop].view(spec.shape)
            parameter.grad = self.flat.grad[spec.start : spec.stop].view(spec.shape)

    def load(self, layout: Layout, flat_P: np.ndarray, buffers: Mapping[str, np.ndarray], outputs: int) -> None:
        """Takes over the weights of a version (copied: the arrays may be shared with other processes)."""
        if outputs != self.outputs or layout != self.layout:
            self.resize(outputs, _rows_of(layout))
        if layout != self.layout:
            raise ValueError(f"the version's tensors {layout} are not those of the configured model {self.layout}")
        self.flat.data.copy_(torch.from_numpy(flat_P.copy()))
        for name, buffer in self.module.named_buffers():
            if name in buffers:
                buffer.copy_(torch.from_numpy(buffers[name].copy()))

    def buffers(self) -> dict[str, np.ndarray]:
        return {name: buffer.detach().cpu().numpy().copy() for name, buffer in self.module.named_buffers()}

    def __call__(self, x_ND: Tensor) -> Tensor:
        logits: Tensor = self.module(x_ND)
        return logits

    def zero_grad(self) -> None:
        assert self.flat.grad is not None
        self.flat.grad.zero_()

    def _fresh_module(self, outputs: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            module = self._build(outputs)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                given = self._initial.get(name)
                if given is not None and tuple(given.shape) == tuple(parameter.shape):
                    parameter.copy_(torch.from_numpy(np.array(given, dtype=np.float32)))
                elif name in self._per_class:
                    parameter.zero_()
        return module.to(self._device)

    def _rows_wanted(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for prefix, layer in _input_layers(self.module):
            found |= {f"{prefix}.hashed.{i}": rows for i, rows in enumerate(layer.rows_wanted())}
        return found

    def _names_that_follow_outputs(self) -> frozenset[str]:
        one, two = (dict(self._fresh_shapes(outputs)) for outputs in (1, 2))
        return frozenset(name for name in two if one.get(name) != two[name])

    def _fresh_shapes(self, outputs: int) -> list[tuple[str, tuple[int, ...]]]:
        with torch.random.fork_rng(devices=[]):
            return [(name, tuple(parameter.shape)) for name, parameter in self._build(outputs).named_parameters()]


def _input_layers(module: nn.Module) -> list[tuple[str, InputLayer]]:
    return [(name, each) for name, each in module.named_modules() if isinstance(each, InputLayer)]


def _rows_of(layout: Layout) -> dict[str, int]:
    """Of each table of categories, by its name."""
    return {spec.name: spec.shape[0] for spec in layout if is_hashed(spec.name)}


def _resize_tables(module: nn.Module, rows: Mapping[str, int]) -> None:
    for prefix, layer in _input_layers(module):
        layer.resize([rows.get(f"{prefix}.hashed.{i}", table.shape[0]) for i, table in enumerate(layer.hashed)])
