"""The weights that a model starts from where it does not start from nothing: transfer, and fine-tuning."""

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from actors.errors import ConfigError
from actors.learning.models.config import ModelConfig


def initial_weights(model: ModelConfig) -> Mapping[str, np.ndarray] | None:
    """The tensors of `model.init_from`. Raises ConfigError where they cannot be read."""
    if model.init_from is None:
        return None
    try:
        return load_file(model.init_from)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"model.init_from {model.init_from!r} cannot be read as safetensors ({error}): name a file that "
            "safetensors.torch.save_file wrote."
        ) from error
