"""A model in memory with everything that its use takes, and the device it is on."""

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from labelsync.errors import OptionError, first_line
from labelsync.labels import LabelMap
from labelsync.model.preprocess import Preprocessing


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and everything needed to use it.

    Attributes:
        model: float32, in eval mode; its outputs are `(N, len(names), h, w)` logits. Of an .onnx file, an `OnnxModel`.
        labels: the classes, in disk ids.
        names: one name per output. Where they are not `labels.names`, outputs are aligned by name.
        size_hw: (height, width) that images are resized to.
        mean, std: per RGB channel, of values in 0..1.
        source: what it was loaded from, as given.
        digest: of the run folder it came from, or of its files.
        head: what became of the class head: "kept", "fresh" or "7 of 12 classes carried over".
        revision: the commit on the Hub that it was loaded from; "" for a folder.
    """

    model: PreTrainedModel = field(repr=False)
    labels: LabelMap = field(repr=False)
    names: tuple[str, ...]
    size_hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    digest: str
    head: str = "kept"
    revision: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """Size, mean and std as one record."""
        return Preprocessing(self.size_hw, self.mean, self.std)


def pick_device(device: str | None) -> torch.device:
    """The named device, or the GPU if there is one. Raises OptionError for a device that is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    # What torch raises, in turn: no device of that name, built without CUDA, a device it has no kernels for ("meta").
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        raise OptionError(f"device {device!r} cannot be used ({first_line(e)})", hint="try --device cpu") from None
    return chosen
