"""The knobs of a recipe: what each is, the values it takes, and its default. `show-recipe` prints these very words.

Every default of a knob that came later is what a run did before there was the knob, so an old recipe means the same.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from labelsync.errors import OptionError
from labelsync.model.size import parse_sides

MIN_SIDE, MAX_SIDE = 2, 8192

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
SomeShare = Annotated[float, Field(gt=0, le=1)]

Schedule = Literal["polynomial", "linear", "cosine", "constant", "step"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["float32", "bf16", "fp16", "auto"]
ClassWeights = Literal["none", "balanced", "log"] | dict[str, Positive]


def _in_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower bound {pair[0]} is above the upper bound {pair[1]}")
    return pair


Factors = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=10)], Annotated[float, Field(ge=0.1, le=10)]], AfterValidator(_in_order)
]


@dataclass(frozen=True)
class Augment:
    """How training images are varied. Every default leaves the image as evaluation sees it.

    At a `scale` of 2 a crop of half the image's height and width fills the input; at 0.5 the whole image fills half of
    it and the rest is padding that is ignored; at 1 the input is the whole image.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    flip: Annotated[Share, "share of images mirrored left to right"] = 0.0
    scale: Annotated[Factors, "bounds of the random zoom; above 1 a crop is seen, below 1 the rest is padding"] = (
        1.0,
        1.0,
    )
    aspect: Annotated[Factors, "bounds of the random factor on the crop's width over its height"] = (1.0, 1.0)
    max_class_share: Annotated[
        SomeShare, "a crop with more of one class among its labelled pixels is laid elsewhere, ten tries; 1 = any crop"
    ] = 1.0
    brightness: Annotated[Share, "at 0.25 a factor between 0.75 and 1.25; so for the next two"] = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5), "at 0.1 a shift of up to a tenth of the colour circle"] = 0.0


@dataclass(frozen=True)
class Loss:
    """What is minimised: cross entropy, and what is added to it or left out of it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    smoothing: Annotated[Share, "label smoothing: share of each target spread over all classes"] = 0.0
    class_weights: Annotated[
        ClassWeights,
        '"none", "balanced" (inverse to the pixels), "log" (milder), or { curb = 4.0 }; classes not named weigh 1',
    ] = "none"
    dice: Annotated[NonNegative, "weight of the Dice loss that is added; 0 = none"] = 0.0
    focal: Annotated[NonNegative, "focal loss: how strongly easy pixels are held back (2 is usual); 0 = not"] = 0.0
    ohem: Annotated[SomeShare, "share of each image's labelled pixels, the hardest, that count; 1 = all"] = 1.0


@dataclass(frozen=True)
class Recipe:
    """The settings of a run, as `labelsync show-recipe` explains them one by one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    image_size: Annotated[str, 'what images are resized to, "512" or "384x512" (height x width)']
    epochs: Annotated[Positive, "passes over the train split; fractions are allowed"]
    batch_size: Annotated[int, Field(ge=1), "images per batch and process"]
    learning_rate: Annotated[Positive, "the highest one, after the warm-up"]
    weight_decay: Annotated[NonNegative, "of every weight that is not a bias or a norm"] = 0.01
    schedule: Annotated[
        Schedule, "polynomial, linear, cosine (to 0), constant, or step (times `gamma` every `step_epochs`)"
    ] = "polynomial"
    warmup: Annotated[float, Field(ge=0, lt=1), "share of the steps over which the learning rate rises from 0"] = 0.0
    augment: Augment = field(default_factory=Augment)
    steps: Annotated[Count, "optimiser steps instead of epochs; 0 = by epochs"] = 0
    accumulate: Annotated[int, Field(ge=1), "batches per optimiser step; as one batch of that many times the size"] = 1
    optimizer: Annotated[Optimizer, "adamw or sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1), "of sgd"] = 0.9
    power: Annotated[Positive, "of the polynomial schedule; 1 is a straight line"] = 1.0
    step_epochs: Annotated[Positive, "of the step schedule: epochs between two falls"] = 10.0
    gamma: Annotated[float, Field(gt=0, lt=1), "of the step schedule: what the learning rate is multiplied by"] = 0.1
    head_factor: Annotated[Positive, "learning rate of all that is not backbone, as a multiple"] = 1.0
    ema: Annotated[
        float, Field(ge=0, lt=1), "decay of the moving average of the weights that is evaluated and kept; 0 = none"
    ] = 0.0
    repeat_rare: Annotated[
        Share, "images with a class that fewer than this share of the images have come oftener; 0 = all alike"
    ] = 0.0
    evaluations: Annotated[Count, "how often the validation split is scored, evenly; 0 = after every epoch"] = 0
    patience: Annotated[Count, "evaluations without a better mean IoU after which the run ends; 0 = never"] = 0
    precision: Annotated[
        Precision, "float32, bf16, fp16, or auto (bf16 on a GPU that computes in it, else float32)"
    ] = "float32"
    compile: Annotated[bool, "torch.compile: minutes at the start, then faster steps"] = False
    seed: Annotated[int, "of the class head, the order of samples, augmentation and dropout"] = 0
    loss: Loss = field(default_factory=Loss)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of `image_size`."""
        return parse_size(self.image_size)


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "512" or "384x512". Raises OptionError."""
    size = parse_sides(text) or (0, 0)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise OptionError(f"image size {text!r} cannot be used", hint="write 512, or 384x512 for height x width")
    return size
