"""A model as an ONNX graph, by torch's exporter: with or without what comes before and after the model inside.

The exporter (torch.export underneath, torch's maintained one) writes where in which file of this machine every node
was made, and the numbers of its own symbols: both are taken out, so the same model gives the same bytes anywhere.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from labelsync.deploy.fold import folded
from labelsync.errors import ModelError, OptionError, first_line
from labelsync.model.loaded import LoadedModel
from labelsync.model.onnx import INPUT, Gives, Takes
from labelsync.model.preprocess import normalize, resize
from labelsync.model.segformer import logits_of

if TYPE_CHECKING:
    from onnx import ModelProto

AXES = ("batch", "size")
_LIMIT = 2**31 - 1  # a protobuf message; the largest of the eight architectures' published models have 1.8 GB


class Graph(torch.nn.Module):
    """What is exported: a model, and before and after it what `takes` and `gives` ask for. See `model/onnx.py`."""

    def __init__(self, loaded: LoadedModel, takes: Takes, gives: Gives) -> None:
        super().__init__()
        self.model, self.size_hw, self.takes, self.gives = loaded.model, loaded.size_hw, takes, gives
        table = loaded.labels.align(loaded.names)
        self.in_order = table.tolist() == list(range(1, len(table) + 1))
        self.wide = loaded.labels.dtype == np.uint16
        self.register_buffer("mean", torch.tensor(loaded.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(loaded.std).view(1, 3, 1, 1) * 255)
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The output named `gives`."""
        interpolate = torch.nn.functional.interpolate
        size = image.shape[2:4]
        if self.takes == "frames":
            size = image.shape[1:3]
            image = image.permute(0, 3, 1, 2).float()
            image = interpolate(image, size=self.size_hw, mode="bilinear", antialias=True).round().clamp(0, 255)
        if self.takes != "normalized":
            image = self._normalized(image.float())
        logits = logits_of(self.model, image)
        if self.gives == "logits":
            return logits
        upsampled = interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return upsampled if self.gives == "upsampled" else self._disk_ids(upsampled.argmax(1))

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        mean: Any = self.mean
        std: Any = self.std
        normalized: torch.Tensor = (pixels - mean) / std
        return normalized

    def _disk_ids(self, winner: torch.Tensor) -> torch.Tensor:
        table: Any = self.table
        ids = winner + 1 if self.in_order else table[winner]
        return ids.to(torch.uint16 if self.wide else torch.uint8)


def graph_input(loaded: LoadedModel, image: npt.NDArray[np.uint8], takes: Takes) -> torch.Tensor:
    """(H, W, 3) uint8 -> what the graph takes of it, a batch of one on the CPU."""
    if takes == "frames":
        return torch.from_numpy(np.ascontiguousarray(image).copy())[None]
    pixels = resize(image, loaded.size_hw)[None]
    return pixels if takes == "pixels" else normalize(pixels, mean=loaded.mean, std=loaded.std)


def axes_of(dynamic: Sequence[str], takes: Takes) -> tuple[str, ...]:
    """The axes that may vary, in order; frames are of any size. Raises OptionError for one that there is not."""
    named = set(dynamic) - {"none", ""}
    if not named <= set(AXES):
        raise OptionError(f"--dynamic {','.join(dynamic)} is no axis", hint="it is batch, size, batch,size or none")
    return tuple(a for a in AXES if a in named or (a == "size" and takes == "frames"))


def to_onnx(
    loaded: LoadedModel, *, takes: Takes, gives: Gives, dynamic: Sequence[str] = ("batch",), opset: int = 18
) -> "ModelProto":
    """The graph of a model that is on the CPU, without metadata.

    Args:
        dynamic: axes of `AXES` that may vary; of frames "size" must be one.
        opset: version of ONNX's operators.

    Raises:
        ModelError: torch cannot export the architecture so, or not in that opset.
    """
    graph = Graph(loaded, takes, gives).eval()
    any_size = torch.export.Dim.DYNAMIC
    first = 1 if takes == "frames" else 2
    varying = {0: any_size} if "batch" in dynamic else {}
    varying |= dict.fromkeys((first, first + 1), any_size) if "size" in dynamic else {}
    example = _example(loaded.size_hw, takes, batch=2 if "batch" in dynamic else 1)
    try:
        with quietly():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[gives],
                dynamic_shapes=(varying,),
                opset_version=opset,
                verbose=False,
            )
            proto: ModelProto = folded(program.model_proto)  # type: ignore[union-attr]  # None is of the old exporter
    except Exception as e:  # noqa: BLE001 - the exporter fails in any way
        raise _refused(loaded, e, dynamic) from None
    written = {o.version for o in proto.opset_import if not o.domain}
    if written != {opset}:
        raise ModelError(
            f"{_kind(loaded)} cannot be written in opset {opset}", hint=f"--opset {max(written)} is what torch writes"
        )
    if proto.ByteSize() > _LIMIT:
        raise ModelError(f"{loaded.source} is larger than the 2 GB that an ONNX file holds", hint="try --fp16")
    return _bare(proto)


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings and log lines of the exporter and the quantiser: what matters of them is checked here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def require_exporter() -> None:
    """Raises ModelError unless everything that `export` needs is installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as e:
        raise ModelError(f"export needs {e.name}, which is missing", hint="pip install 'labelsync[onnx]'") from None
    del onnx, onnxruntime, onnxscript


def _example(size_hw: tuple[int, int], takes: Takes, *, batch: int) -> torch.Tensor:
    """An input to trace with; no value of it is looked at."""
    height, width = size_hw
    if takes == "frames":  # of no size that the model has, so that none is taken for fixed
        return torch.zeros((batch, height + 40, width + 24, 3), dtype=torch.uint8)
    return torch.zeros((batch, 3, height, width), dtype=torch.float32 if takes == "normalized" else torch.uint8)


def _bare(proto: "ModelProto") -> "ModelProto":
    """Without source lines, and with axes that have names instead of the exporter's numbers."""
    graph = proto.graph
    for part in [proto, graph, *proto.functions, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]  # shapes of what lies between, which every reader works out by itself
    names = dict(zip((0, 1, 2, 3), _axis_names(graph.input[0]), strict=True))
    known: dict[str, str] = {}
    for number, axis in enumerate(graph.input[0].type.tensor_type.shape.dim):
        if axis.dim_param:
            known[axis.dim_param] = axis.dim_param = names[number]
    for number, axis in enumerate(graph.output[0].type.tensor_type.shape.dim):
        if axis.dim_param:
            axis.dim_param = known.get(axis.dim_param, f"output_{number}")
    return proto


def _axis_names(given: Any) -> tuple[str, str, str, str]:
    last = given.type.tensor_type.shape.dim[3]
    frames = last.dim_value == 3 and not last.dim_param and given.type.tensor_type.shape.dim[1].dim_value != 3
    return ("batch", "height", "width", "channel") if frames else ("batch", "channel", "height", "width")


def _refused(loaded: LoadedModel, error: Exception, dynamic: Sequence[str]) -> ModelError:
    """Why torch would not export it, in a line: what it names lies at the bottom of the chain of errors."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    hint = "leave out --dynamic size" if "size" in dynamic else "report it to the authors of torch.onnx"
    return ModelError(f"{_kind(loaded)} cannot be exported by torch: {first_line(error)}", hint=hint)


def _kind(loaded: LoadedModel) -> str:
    return f"{loaded.source} ({loaded.model.config.model_type})"
