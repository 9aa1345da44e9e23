"""ONNX files: what an exported graph says of itself, and such a file as a model for the Segmenter.

A graph takes one of

    normalized  (N, 3, h, w) float32: RGB, resized to the model's size, (value / 255 - mean) / std
    pixels      (N, 3, h, w) uint8: RGB, resized to the model's size
    frames      (N, H, W, 3) uint8: RGB of any size, as a camera gives it

as its input `image`, and gives one output of the same name as its kind:

    logits      (N, C, h', w') float32, as small as the model gives them
    upsampled   (N, C, h, w) float32 logits at the size of the input
    classes     (N, h, w) disk ids at the size of the input: uint8 up to 254 classes, uint16 above
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from labelsync.errors import LabelsyncError, ModelError, OptionError, first_line
from labelsync.labels import UNLABELED, LabelMap
from labelsync.model.loaded import LoadedModel, pick_device
from labelsync.model.preprocess import RGB
from labelsync.model.source import ModelFiles
from labelsync.records.text import from_json, to_json

Takes = Literal["normalized", "pixels", "frames"]
Gives = Literal["logits", "upsampled", "classes"]

INPUT = "image"
_HOW = "make the file by labelsync export, from the model's folder or Hub id"


@dataclass(frozen=True)
class GraphFacts:
    """What a graph is, as its file's metadata says it.

    Attributes:
        labels: the pinned map, category ids and colours included.
        outputs: a name per logit.
        takes, gives: kinds of input and output, see the module.
        size_hw: (height, width) of the model's input.
        mean, std: per RGB channel, of values in 0..1.
        precision: "fp32", "fp16" or "int8".
        model, model_digest: what it was exported from.
        version: of the labelsync that exported it.
    """

    labels: LabelMap
    outputs: tuple[str, ...]
    takes: Takes
    gives: Gives
    size_hw: tuple[int, int]
    mean: RGB
    std: RGB
    precision: str
    model: str
    model_digest: str
    version: str

    def metadata(self) -> dict[str, str]:
        """Names to text, JSON where it is not a word: `id2label` and `colors` (by disk id) are for other programs."""
        return {
            "labelsync": self.version,
            "model": self.model,
            "model_digest": self.model_digest,
            "precision": self.precision,
            "takes": self.takes,
            "gives": self.gives,
            "size": json.dumps({"height": self.size_hw[0], "width": self.size_hw[1]}),
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "id2label": json.dumps({str(i): name for i, name in self.labels.id2label.items()}, ensure_ascii=False),
            "colors": json.dumps(self.labels.colors.tolist()),
            "outputs": json.dumps(self.outputs, ensure_ascii=False),
            "label_map": to_json(self.labels, indent=None),
        }


def facts_of(metadata: Mapping[str, str], *, where: str) -> GraphFacts:
    """What `GraphFacts.metadata` wrote. Raises ModelError, naming `where`, for a file that says something else."""
    lacking = [name for name in ("label_map", "outputs", "takes", "gives", "size") if name not in metadata]
    if lacking:
        raise ModelError(f"{where} does not say what its classes are (no {lacking[0]!r} in its metadata)", hint=_HOW)
    try:
        size = json.loads(metadata["size"])
        facts = GraphFacts(
            labels=from_json(LabelMap, metadata["label_map"], where=f"the label_map of {where}"),
            outputs=tuple(str(name) for name in json.loads(metadata["outputs"])),
            takes=cast("Takes", metadata["takes"]),
            gives=cast("Gives", metadata["gives"]),
            size_hw=(int(size["height"]), int(size["width"])),
            mean=_rgb(metadata["mean"]),
            std=_rgb(metadata["std"]),
            precision=metadata.get("precision", ""),
            model=metadata.get("model", ""),
            model_digest=metadata.get("model_digest", ""),
            version=metadata.get("labelsync", ""),
        )
    except LabelsyncError as e:
        raise ModelError(e.message, hint=_HOW) from None
    except (ValueError, KeyError, TypeError) as e:
        raise ModelError(f"the metadata of {where} cannot be read ({e!r})", hint=_HOW) from None
    if facts.takes not in get_args(Takes) or facts.gives not in get_args(Gives):
        raise ModelError(f"{where} takes {facts.takes!r} and gives {facts.gives!r}", hint="upgrade labelsync")
    return facts


class OnnxOutput(NamedTuple):
    """As a transformers model's output: (N, C, h, w) float32 `logits`, or (N, h, w) disk ids of a graph that gives
    classes."""

    logits: torch.Tensor


class OnnxModel(torch.nn.Module):
    """An onnxruntime session that is called as a transformers model is. Any number of threads may call it."""

    def __init__(self, session: Any, facts: GraphFacts, *, source: str) -> None:
        super().__init__()
        self.session, self.facts, self.source = session, facts, source
        (given,) = session.get_inputs()
        self.fixed: tuple[int | None, ...] = tuple(n if isinstance(n, int) else None for n in given.shape)
        # whoever asks a model's parameters where it is gets an answer
        self.place = torch.nn.Parameter(torch.empty(0), requires_grad=False)

    @property
    def takes(self) -> Takes:
        """The kind of input."""
        return self.facts.takes

    @property
    def gives(self) -> Gives:
        """The kind of output."""
        return self.facts.gives

    @property
    def any_size(self) -> bool:
        """Whether images need not have the size of `facts.size_hw`."""
        return self.takes == "frames" or None in self.fixed[2:4]

    def forward(self, images: torch.Tensor) -> OnnxOutput:
        """Run a batch of what the graph takes; whole numbers in floats are taken for pixels.

        Raises:
            ModelError: images of another size than the graph takes, or it fails.
        """
        batch = images.detach().cpu()
        if self.takes != "normalized":
            batch = batch.round().to(torch.uint8)
        array = np.ascontiguousarray(batch.numpy())
        wrong = [(n, m) for n, m in zip(array.shape[1:], self.fixed[1:], strict=True) if m is not None and n != m]
        if wrong:
            height, width = self.facts.size_hw
            raise ModelError(
                f"{self.source} takes images of {width}x{height} only",
                hint="export the model with --dynamic batch,size for others",
            )
        step = self.fixed[0] or len(array)
        if len(array) % step:
            raise ModelError(f"{self.source} takes {step} images at once, not {len(array)}")
        made = [self._run(array[start : start + step]) for start in range(0, len(array), step)]
        return OnnxOutput(torch.from_numpy(_signed(np.concatenate(made))).to(images.device))

    def of_frames(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[torch.Tensor]:
        """What a graph that takes frames gives for each, one by one: their sizes may differ."""
        return [self(torch.from_numpy(np.ascontiguousarray(f).copy())[None]).logits[0] for f in frames]

    def _run(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            return cast("npt.NDArray[Any]", self.session.run(None, {INPUT: array})[0])
        except Exception as e:  # noqa: BLE001 - onnxruntime raises what its kernels raise
            raise ModelError(f"{self.source} fails in onnxruntime ({first_line(e)})", hint=_HOW) from None


def load_onnx(files: ModelFiles, *, device: str | None) -> LoadedModel:
    """An exported file, ready to segment; `load_model` calls it.

    Raises:
        ModelError: not an ONNX file, one without class names, or onnxruntime is not there.
        OptionError: a device that onnxruntime cannot use.
    """
    session = _session(files, pick_device(device), asked=device is not None)
    facts = facts_of(session.get_modelmeta().custom_metadata_map, where=files.source)
    ours = [(i.name, len(i.shape)) for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if ours != ([(INPUT, 4)], [facts.gives]):
        raise ModelError(f"{files.source} has other inputs and outputs than its metadata says", hint=_HOW)
    # a graph that normalises by itself leaves the caller nothing to do: (value - 255 * 0) / (255 * 1 / 255)
    plain = facts.takes == "normalized"
    return LoadedModel(
        model=cast("PreTrainedModel", OnnxModel(session, facts, source=files.source).eval()),  # called alike
        labels=facts.labels,
        names=(UNLABELED, *facts.labels.names) if facts.gives == "classes" else facts.outputs,
        size_hw=facts.size_hw,
        mean=facts.mean if plain else (0.0, 0.0, 0.0),
        std=facts.std if plain else (1 / 255, 1 / 255, 1 / 255),
        source=files.source,
        digest=files.digest,
    )


def _session(files: ModelFiles, device: torch.device, *, asked: bool) -> Any:
    """An onnxruntime session on as many threads as torch uses."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            f"{files.source} needs onnxruntime, which is not installed", hint="pip install 'labelsync[onnx]'"
        ) from None
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    elif device.type != "cpu" and asked:
        raise OptionError(f"this onnxruntime cannot use {device}", hint="install onnxruntime-gpu, or --device cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    try:
        return onnxruntime.InferenceSession(str(files.file), options, providers=providers)
    except Exception as e:  # noqa: BLE001 - a broken file fails in any way
        raise ModelError(
            f"{files.source} is no ONNX file that onnxruntime can read ({first_line(e)})",
            hint="copy or export it again",
        ) from None


def _signed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """uint16 ids as int32, which torch can compute with."""
    return array.astype(np.int32) if array.dtype == np.uint16 else array


def _rgb(text: str) -> RGB:
    r, g, b = (float(value) for value in json.loads(text))
    return r, g, b
