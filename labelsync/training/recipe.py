"""Recipes: the settings of a fine-tuning run as a small TOML file, checked key by key.

A recipe holds the knobs that belong together; the command's own flags replace single ones. What is not here is a
TrainingArguments field and goes through `--set`.
"""

import difflib
import json
import re
import tomllib
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from labelsync.errors import OptionError

MIN_SIDE, MAX_SIDE = 2, 8192

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Schedule = Literal["polynomial", "linear", "cosine", "constant"]


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

    Attributes:
        flip: share of images mirrored left to right.
        scale: bounds of the random zoom. At 2 a crop of half the image's height and width fills the input; at 0.5 the
            whole image fills half of it and the rest is padding that is ignored; at 1 the input is the whole image.
        aspect: bounds of the random factor on the crop's width over its height, 1 = the image's own.
        brightness, contrast, saturation: at 0.25 a factor between 0.75 and 1.25.
        hue: at 0.1 a shift between -0.1 and 0.1 of the colour circle.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    flip: Share = 0.0
    scale: Factors = (1.0, 1.0)
    aspect: Factors = (1.0, 1.0)
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


@dataclass(frozen=True)
class Recipe:
    """The settings of a run.

    Attributes:
        image_size: what images are resized to, "512" or "384x512" (height x width).
        epochs: passes over the training split; fractions are allowed.
        batch_size: images per step and process.
        learning_rate: the highest one, after the warm-up.
        weight_decay: of every weight that is not a bias or a norm.
        schedule: how the learning rate falls to 0 ("constant": it does not).
        warmup: share of the steps over which the learning rate rises from 0.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    image_size: str
    epochs: Positive
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    schedule: Schedule = "polynomial"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Augment = field(default_factory=Augment)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of `image_size`."""
        return parse_size(self.image_size)


def load_recipe(name: str | Path, **replaced: Any) -> Recipe:
    """The recipe of that name or in that TOML file, with the fields in `replaced` that are not None.

    Raises:
        OptionError: no such recipe, or a key that is unknown or has a value that cannot be used; the key is named.
    """
    values = _read(name)
    _validated(values, where=f"recipe {name}")
    flags = {k: v for k, v in replaced.items() if v is not None}
    recipe = _validated(values | flags, where="")
    parse_size(recipe.image_size)
    return recipe


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, for a manifest."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def builtin() -> tuple[str, ...]:
    """Names of the recipes that come with labelsync."""
    return tuple(sorted(f.name[:-5] for f in _folder().iterdir() if f.name.endswith(".toml")))


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "512" or "384x512". Raises OptionError."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise OptionError(f"image size {text!r} cannot be used", hint="write 512, or 384x512 for height x width")
    return size


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name).expanduser()
    if isinstance(name, str) and name in builtin():
        data = (_folder() / f"{name}.toml").read_bytes()
    elif path.is_file():
        data = path.read_bytes()
    else:
        close = difflib.get_close_matches(str(name), builtin(), n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise OptionError(
            f"there is no recipe {str(name)!r}", hint=f"{guess}give one of {', '.join(builtin())}, or a TOML file"
        )
    try:
        return tomllib.loads(data.decode())
    except ValueError as e:  # TOMLDecodeError and UnicodeDecodeError
        raise OptionError(f"recipe {name} is not TOML ({str(e).splitlines()[0]})", hint="correct that line") from None


def _validated(values: dict[str, Any], *, where: str) -> Recipe:
    """Strict, so that "8" is no number; through JSON, where a list may become a tuple. `where` "" = the flags."""
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        path = [str(p) for p in first["loc"] if isinstance(p, str)] or ["the recipe"]
        key = ".".join(path)
        if first["type"] == "unexpected_keyword_argument":
            known = Augment if path[0] == "augment" and len(path) > 1 else Recipe
            close = difflib.get_close_matches(path[-1], known.__dataclass_fields__, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known.__dataclass_fields__)}"
            raise OptionError(f"{where} has an unknown key {key!r}", hint=hint) from None
        if first["type"] == "missing":
            raise OptionError(f"{where} lacks {key!r}", hint="add it") from None
        what = (
            f"{where} has {key} = {first['input']!r}" if where else f"--{key.replace('_', '-')} is {first['input']!r}"
        )
        reason = first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{what}, which cannot be used", hint=reason[:1].lower() + reason[1:]) from None


def _folder() -> Any:
    return resources.files("labelsync.training").joinpath("recipes")
