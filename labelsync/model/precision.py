"""In which numbers a model computes: float32, or half of it with the rest kept in float32 (torch.autocast)."""

from typing import Literal, NoReturn, get_args

import torch

from labelsync.errors import OptionError
from labelsync.model.loaded import LoadedModel
from labelsync.model.onnx import OnnxModel

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_precision(precision: str, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """The precision that is meant: "auto" is fp16 on a CUDA device, fp32 elsewhere.

    Of the two halves fp16 has the finer numbers, 11 bits to 8, so its classes are nearer to those of fp32; what it
    cannot hold (beyond 65504) is seen, since outputs that are not finite are an error. A CPU is slower with either.

    Raises:
        OptionError: no such precision.
    """
    if precision not in get_args(Precision):
        raise OptionError(f"no precision is called {precision!r}", hint=f"there are: {', '.join(get_args(Precision))}")
    if precision == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    return precision  # type: ignore[return-value] # what is left of the three


def precision_of(loaded: LoadedModel, precision: str, device: torch.device) -> str:
    """As `pick_precision`, for a model; an exported graph computes in what it was exported in: "int8" too.

    Raises:
        OptionError: as `pick_precision`, and half precision for an exported graph.
    """
    picked = pick_precision(precision, device)
    model: torch.nn.Module = loaded.model
    if not isinstance(model, OnnxModel):
        return picked
    if precision not in ("auto", "fp32"):  # fp32 is the Segmenter's default
        refuse_precision(loaded.source, precision)
    return model.facts.precision


def refuse_precision(source: str, precision: str) -> NoReturn:
    """Raises OptionError: a precision that was chosen for an .onnx file."""
    raise OptionError(
        f"--precision {precision} says nothing to {source}: an ONNX file computes in what it was exported in",
        hint="leave it out, or export the model with --fp16 or --quantize int8",
    )
