"""Which model learns."""

from typing import Any, Literal

from pydantic import model_validator

from actors.learning.section import Section, setting


class ModelConfig(Section):
    kind: Literal["linear", "mlp", "ensemble", "python"] = setting(
        "ensemble",
        "`ensemble`: networks and experts that learn from every row, mixed by what they are worth; `linear`, `mlp`, or "
        "`python`: a factory of yours.",
    )
    memory_rows: int = setting(
        5000,
        "Kind `ensemble`: the latest labelled rows, where neighbours are looked for; and as many of all classes, at most 256.",
        unit="rows",
        ge=16,
        le=5000,
    )
    hidden: list[int] = setting([128, 128], "Widths of the hidden layers of `mlp`.", unit="units")
    embedding_size: int = setting(
        16, "`mlp`: numbers in the learned vector of each value of a categorical column.", unit="numbers", ge=1, le=1024
    )
    embedding_rows: Literal[64, 128, 256, 512, 1024, 2048, 4096] = setting(
        2048,
        "`linear`, `mlp`: the most rows of a categorical column's table. It starts with 64 and doubles as values come; each "
        "value is the sum of two rows, so that there may be more values than rows.",
        unit="rows",
    )
    factory: str | None = setting(
        None,
        "Kind `python`: dotted path `package.module:function`, called with (inputs, outputs), returning a torch.nn.Module. All "
        "inputs are numbers: a categorical column is 32 of them, a text 512.",
    )
    options: dict[str, Any] = setting({}, "Kind `python`: further keyword arguments of the factory.")
    init_from: str | None = setting(
        None, "A .safetensors file whose tensors, where name and shape fit, are the weights to start from (transfer)."
    )
    freeze: list[str] = setting([], "Patterns of parameter names that are not learned, such as `layers.0.*` (fine-tuning).")

    @model_validator(mode="after")
    def _factory_goes_with_python(self) -> "ModelConfig":
        if (self.kind == "python") != (self.factory is not None):
            raise ValueError("model.factory goes with model.kind: python; set both or neither")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"model.hidden needs widths of at least 1, got {self.hidden}")
        return self
