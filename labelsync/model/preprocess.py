"""Images to model input: resize and normalise exactly as the saved image processor does, and that processor's file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional
from transformers import AutoImageProcessor, PretrainedConfig, PreTrainedModel, SegformerImageProcessor

from labelsync.errors import ModelError, first_line

RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
_SIZE = 512


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it.

    Attributes:
        size_hw: (height, width) the whole image is resized to, bilinear with antialiasing, its aspect ignored.
        mean, std: per channel, of values in 0..1.
        bgr: the model wants its channels as BGR; `mean` and `std` are then all zero and all one.
    """

    size_hw: tuple[int, int]
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    bgr: bool = False


def resize(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, h, w) uint8, the same values as SegformerImageProcessor's resize."""
    return resize_interleaved(image, size_hw).permute(2, 0, 1).contiguous()


def resize_interleaved(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> torch.Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 with the values of `resize`, perhaps in the image's own memory.

    Channels stay side by side, as codecs give them: torchvision then takes a quarter of the time for the same values.
    """
    if not image.flags.writeable or min(image.strides) < 0:  # torch warns of the one and refuses the other
        image = image.copy()
    channels_first = torch.from_numpy(image).permute(2, 0, 1)
    # torchvision rounds a uint8 result; a resize in float would give other last digits than the saved processor
    resized: torch.Tensor = functional.resize(channels_first, list(size_hw), antialias=True)
    return resized.permute(1, 2, 0)


def normalize(
    pixels: torch.Tensor, *, mean: Sequence[float] | torch.Tensor, std: Sequence[float] | torch.Tensor
) -> torch.Tensor:
    """(N, 3, h, w) uint8 -> float32 on the same device: (value - 255 mean) / (255 std), in the processor's order."""
    scaled_mean = torch.as_tensor(mean, device=pixels.device) * 255.0
    scaled_std = torch.as_tensor(std, device=pixels.device) * 255.0
    shape = (1, 3, 1, 1)
    return pixels.to(torch.float32).sub_(scaled_mean.view(shape)).div_(scaled_std.view(shape))


def read_preprocessing(folder: Path, config: PretrainedConfig) -> Preprocessing:
    """The preprocessing that a model folder states; ImageNet's where it states none.

    A processor that crops or keeps the aspect ratio is read as one that resizes the whole image to the size the model
    sees, since every pixel needs a class. Another scale than 1/255 goes into mean and std.

    Raises:
        ModelError: a preprocessor_config.json that transformers cannot read.
    """
    if not (folder / "preprocessor_config.json").is_file():
        side = getattr(config, "image_size", _SIZE)
        return Preprocessing((side, side) if isinstance(side, int) else (int(side[0]), int(side[1])))
    try:
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as e:  # noqa: BLE001 - a broken file fails in any way
        raise ModelError(
            f"{folder}/preprocessor_config.json cannot be read ({first_line(e)})", hint="copy it again"
        ) from None
    scale = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return Preprocessing(
        _size_hw(processor),
        mean=_rgb(m / scale for m in mean),
        std=_rgb(s / scale for s in std),
        bgr=bool(getattr(processor, "do_flip_channel_order", False)),
    )


def write_preprocessing(folder: Path, preprocessing: Preprocessing, *, do_reduce_labels: bool) -> None:
    """Write preprocessor_config.json, which AutoImageProcessor and `pipeline` read for any architecture."""
    height, width = preprocessing.size_hw
    SegformerImageProcessor(
        size={"height": height, "width": width},
        image_mean=list(preprocessing.mean),
        image_std=list(preprocessing.std),
        do_reduce_labels=do_reduce_labels,
    ).save_pretrained(folder)


def swap_color_channels(model: PreTrainedModel) -> None:
    """Turn a model for BGR images into the same model for RGB images: its first convolution with channels reversed."""
    stem = next((p for p in model.parameters() if p.ndim == 4 and p.shape[1] == 3), None)
    if stem is None:
        raise ModelError("a model for BGR images without a convolution over three channels", hint="convert it to RGB")
    with torch.no_grad():
        stem.copy_(stem.flip(1))


def _size_hw(processor: Any) -> tuple[int, int]:
    crop = bool(getattr(processor, "do_center_crop", False))
    size = dict(processor.crop_size if crop and processor.crop_size else processor.size)
    if size.get("height") and size.get("width"):
        return int(size["height"]), int(size["width"])
    side = int(size.get("shortest_edge") or size.get("longest_edge") or _SIZE)
    return side, side


def _rgb(values: Any) -> RGB:
    r, g, b = (float(v) for v in values)
    return r, g, b
