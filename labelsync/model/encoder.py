"""What a model's encoder makes of an image as a whole: one vector, near to those of images that look alike to it."""

from typing import Any

import torch
from transformers import PreTrainedModel

from labelsync.errors import ModelError


def embeddings_of(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) normalised -> (N, D) float32: the encoder's last hidden state, its mean over all places.

    Raises:
        ModelError: the model has no encoder of its own to ask, as an exported one.
    """
    hidden = _last_state(_encoder(model)(pixels))
    return (hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden.mean(1)).float()


def _encoder(model: PreTrainedModel) -> Any:
    base = getattr(model, "base_model", None)
    encoder = getattr(model, "backbone", None) if base is model else base  # UPerNet has a backbone of any kind
    if encoder is None:
        raise ModelError(
            f"a model of type {type(model).__name__} gives no embeddings of images",
            hint="choose a --strategy without diversity, such as entropy",
        )
    return encoder


def _last_state(found: Any) -> torch.Tensor:
    """(N, D, h, w), or (N, tokens, D) of an encoder that knows no places."""
    state: torch.Tensor | None = getattr(found, "last_hidden_state", None)
    if state is not None:
        return state
    last: torch.Tensor = found.feature_maps[-1]
    return last
