"""In which numbers a model computes: float32, or half of it with the rest kept in float32 (torch.autocast)."""

from typing import Literal, get_args

import torch

from labelsync.errors import OptionError

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
