"""Whether a graph may be called with other batches and sizes than those it was traced with.

An architecture that computes something from the size of its input in Python is traced with that number in it. Then
onnxruntime refuses other sizes or, worse, answers: BEiT's position embeddings and UPerNet's pooling come out wrong.
"""

import numpy as np
import torch

from labelsync.deploy.graph import Graph
from labelsync.errors import ModelError, first_line
from labelsync.model.onnx import OnnxModel

_CLOSE = {"fp32": 1e-3, "fp16": 3e-2}  # of the range of the outputs; what is traced wrong is off by a tenth or more


def require_axes(graph: Graph, exported: OnnxModel, dynamic: tuple[str, ...]) -> None:
    """Compare logits on noise of the batches and sizes that the graph is to take.

    Args:
        graph: the model as it was exported, on the CPU.
        exported: its file. One in 8 bits, or one that gives classes, is only run: noise has no sure class.

    Raises:
        ModelError: the graph refuses one of them, or gives something else than the model.
    """
    height, width = graph.size_hw
    batches = (1, 3) if "batch" in dynamic else (1,)
    sizes = [(height, width)]
    if "size" in dynamic:
        sizes.append((height * 3 // 2 // 32 * 32 or 32, width * 2))
    for batch in batches:
        for size in sizes:
            _require(graph, exported, _noise(graph, batch, size))


def _require(graph: Graph, exported: OnnxModel, images: torch.Tensor) -> None:
    what = "x".join(map(str, images.shape))
    try:
        found = exported(images).logits
        with torch.inference_mode():
            meant = graph(images)
    except (ModelError, RuntimeError) as e:
        raise _wrong(exported, f"it does not run on {what}", e) from None
    if found.shape != meant.shape:
        raise _wrong(exported, f"it gives {tuple(found.shape)} for {what}, the model {tuple(meant.shape)}")
    if graph.gives == "classes" or exported.facts.precision not in _CLOSE:
        return
    off = float((found - meant).abs().max() / (meant.max() - meant.min()).clamp(min=1e-12))
    if not off <= _CLOSE[exported.facts.precision]:
        raise _wrong(exported, f"its outputs for {what} are off by {off:.2g} of their range")


def _noise(graph: Graph, batch: int, size: tuple[int, int]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    if graph.takes == "frames":
        return torch.from_numpy(rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8))
    if graph.takes == "pixels":
        return torch.from_numpy(rng.integers(0, 256, (batch, 3, *size), dtype=np.uint8))
    return torch.from_numpy(rng.standard_normal((batch, 3, *size), dtype=np.float32))


def _wrong(exported: OnnxModel, what: str, error: Exception | None = None) -> ModelError:
    reason = f" ({first_line(error)})" if error else ""
    hint = "leave out --dynamic size, or batch" if exported.any_size or exported.fixed[0] is None else "try --opset 20"
    return ModelError(f"the exported graph cannot be used: {what}{reason}"[:300], hint=hint)
