"""A moving average of the weights: what is evaluated, saved and kept in place of the weights that the steps move."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """The exponential moving average of a model's state, norm statistics included.

    After step n: average = d average + (1 - d) weights, with d = min(decay, (1 + n) / (10 + n)): the ramp of
    TensorFlow's ExponentialMovingAverage with `num_updates`, by which a short run is not the average of its first,
    random weights. Whole numbers, such as a count of batches, are the model's own.

    Args:
        model: its state now is the average's first.
        decay: 0..1; at 0.999 the average is over some thousand steps.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights as they are after optimiser step `step` (1, 2, ...)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self.model.state_dict().items():
            average = self.state[name] = self.state[name].to(tensor.device)
            if average.is_floating_point():
                average.lerp_(tensor.to(average.dtype), 1 - decay)
            else:
                average.copy_(tensor)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin with the model's state as it is now."""
        for name, tensor in self.model.state_dict().items():
            self.state[name] = tensor.detach().clone()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model is the average inside the block, and afterwards what it was, bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        _copy(self.state, self.model)
        try:
            yield
        finally:
            _copy(own, self.model)


@torch.no_grad()
def _copy(state: dict[str, torch.Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(state[name])
