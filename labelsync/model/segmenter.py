"""`Segmenter`: images to class maps at their original size. The one way from image to classes, for evaluation,
training's evaluations, `predict` and a robot's loop."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from labelsync.errors import BitmapError, ModelError, OptionError
from labelsync.labels import LabelMap
from labelsync.model.encoder import embeddings_of
from labelsync.model.load import load_model
from labelsync.model.loaded import LoadedModel, pick_device
from labelsync.model.memory import is_out_of_memory
from labelsync.model.onnx import OnnxModel, Takes
from labelsync.model.precision import DTYPES, precision_of
from labelsync.model.preprocess import normalize, resize
from labelsync.model.segformer import logits_of
from labelsync.model.uncertainty import Uncertainty, winner_and_probabilities, winner_and_uncertainty
from labelsync.model.ways import Canvas, Found, Grid, Pick, picked, read_ways, scaled
from labelsync.model.winner import winner_and_confidence, winner_and_label_probability, winning_output
from labelsync.pixels.image import ImageLike, as_array


class Segmenter:
    """A model ready to segment, kept on its device.

    Any number of threads may call one Segmenter: it holds nothing between calls. Inference runs in float32 without
    autocast, whatever the caller's context, unless `precision` says otherwise; a model in training mode is put into
    eval mode. A model that it loads itself is warm then: the first image takes no longer than the others.

    Args:
        model: a folder, a Hub id "user/name[@revision]", an .onnx file, or a model loaded already.
        device: "cuda", "cpu", ...; None = a GPU if there is one, or where a loaded model already is.
        batch_size: images run through the model at once.
        labels: classes to answer in, matched with the model's outputs by name; None = the model's own. Where the
            winning output is of no class of `labels`, the answer is 0: such an output is never skipped for the next.
        flip: also look at each image mirrored, and average; see `labelsync.model.ways` for these three.
        scales: sizes of the model's input, as multiples of its own, that are averaged.
        window: "512" or "384x512" (height x width): put windows of so many pixels of the image into the model, one
            after the other, instead of the whole image; for images much larger than what it was trained on.
        precision: "fp32", or "bf16" or "fp16" for mixed precision, or "auto": fp16 on a CUDA device, else fp32. An
            .onnx file computes in what it was exported in, which `segmenter.precision` then says.

    Raises:
        as `labelsync.model.load.load_model`.
        OptionError: `precision`, `scales` or `window` that say nothing, as half precision to an .onnx file, or a scale
            whose inputs the model cannot take.
    """

    def __init__(
        self,
        model: str | Path | LoadedModel,
        *,
        device: str | None = None,
        batch_size: int = 8,
        labels: LabelMap | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        window: str | None = None,
        precision: str = "fp32",
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"a batch of {batch_size} images", hint="--batch-size is 1 or more")
        self.ways = read_ways(flip=flip, scales=scales, window=window)
        self.loaded = model if isinstance(model, LoadedModel) else load_model(model, device=device)
        if device is not None and isinstance(model, LoadedModel):
            torch.nn.Module.to(self.loaded.model, pick_device(device))
        if not self.ways.plain:
            self._require_logits("--flip, --scales and --window")
        self.batch_size = batch_size
        self.labels = labels or self.loaded.labels
        self._table = self.labels.align(self.loaded.names).astype(self.labels.dtype)
        self.precision = precision_of(self.loaded, precision, self.device)
        self._grids = () if self.ways.plain else tuple(self._grid(scale) for scale in self.ways.scales)
        if not isinstance(model, LoadedModel):
            self.warm_up()

    def warm_up(self) -> None:
        """Segment a black image of the model's own size: what is made at the first use is made now."""
        self.segment(np.zeros((*self.loaded.size_hw, 3), np.uint8))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Those of `labels` that the model has no output for."""
        return tuple(name for name in self.labels.names if name not in self.loaded.names)

    def segment(self, image: ImageLike) -> npt.NDArray[Any]:
        """One image -> (H, W) disk ids (uint8 up to 254 classes, else uint16) at its own size, EXIF applied.

        Args:
            image: (H, W, 3) uint8 RGB, the bytes of an image file, a PIL image, or a path.

        Raises:
            BitmapError: not an image.
            ModelError: the model's outputs are not finite.
        """
        return self.segment_batch([image])[0]

    def segment_batch(self, images: Iterable[ImageLike]) -> list[npt.NDArray[Any]]:
        """Images of any sizes -> as many class maps, in order, run `batch_size` at once. Raises as `segment`."""
        return [self._table[winner.cpu().numpy()] for winner, *_ in self._in_batches(images, winning_output)]

    def segment_on_device(self, images: Iterable[ImageLike]) -> list[torch.Tensor]:
        """As `segment_batch`, as (H, W) int32 tensors that stay on the model's device. Raises as `segment`."""
        table = torch.from_numpy(self._table.astype(np.int32)).to(self.device)
        return [table[winner.long()] for winner, *_ in self._in_batches(images, winning_output)]

    def segment_with_confidence(
        self, images: Iterable[ImageLike]
    ) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]]:
        """As `segment_batch`, and beside each class map its confidence: (H, W) float32 in 0..1.

        It is None where the model is an exported graph that gives classes alone.

        The confidence of a pixel is the softmax probability of the winning output there, over the upsampled outputs.
        It comes out of one pass over all outputs: 0.37 s for a 1080p image of 35 classes on a CPU, 0.07 without it.
        """
        if self._exported("classes"):
            return [(bitmap, None) for bitmap in self.segment_batch(images)]
        found = self._in_batches(images, winner_and_confidence)
        return [(self._table[winner.cpu().numpy()], c.cpu().numpy()) for winner, c in found]

    def segment_with_labels(
        self, images: Iterable[ImageLike], labels: Iterable[npt.NDArray[Any]]
    ) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """As `segment_with_confidence`, and beside both how probable the model finds each image's label.

        That is (H, W) float32 in 0..1: the softmax probability of the class that the label, (H, W) disk ids, gives a
        pixel; 0 where it gives none, or one that the model does not know. Other probabilities are never kept.

        Raises:
            BitmapError: not an image, or a label of another size or with other ids.
            OptionError: an exported graph that gives classes alone.
            ModelError: as `segment`.
        """
        if self._exported("classes"):
            source = self.loaded.source
            raise OptionError(f"{source} does not say how sure it is", hint="export the model with --gives logits")
        outputs = np.full(self.labels.num_labels + 1, -1, np.int32)  # of each disk id
        known = np.flatnonzero(self._table)
        outputs[self._table[known]] = known
        arrays, ids = [as_array(image) for image in images], list(labels)
        for array, label in zip(arrays, ids, strict=True):
            if label.shape != array.shape[:2] or int(label.max()) >= len(outputs):
                raise BitmapError("a label does not fit its image or the classes")
        beside = [torch.from_numpy(outputs[label]).to(self.device) for label in ids]
        found = self._in_batches(arrays, winner_and_label_probability, beside)
        return [(self._table[w.cpu().numpy()], sure.cpu().numpy(), p.cpu().numpy()) for w, sure, p in found]

    def segment_with_uncertainty(self, images: Iterable[ImageLike]) -> list[tuple[npt.NDArray[Any], Uncertainty]]:
        """As `segment_batch`, and beside each class map how sure the model is of each pixel. Raises as `segment`."""
        self._require_logits("uncertainty")
        found = self._in_batches(images, winner_and_uncertainty)
        return [(self._table[w.cpu().numpy()], Uncertainty(*(m.cpu().numpy() for m in maps))) for w, *maps in found]

    def segment_with_probabilities(
        self, images: Iterable[ImageLike]
    ) -> list[tuple[npt.NDArray[Any], Uncertainty, npt.NDArray[np.uint8]]]:
        """As `segment_with_uncertainty`, and (K, H, W) uint8 probabilities in 255ths: [i] is that of disk id i + 1.

        They are large, 73 MB for a 1080p image of 35 classes: give few images at once. Raises as `segment`.
        """
        self._require_logits("probabilities")
        answers, ids = [], self._table.astype(np.int64)  # disk id of each output
        for winner, *maps, found in self._in_batches(images, winner_and_probabilities):
            probabilities = np.zeros((self.labels.num_labels, *winner.shape), np.uint8)
            probabilities[ids[ids > 0] - 1] = found.cpu().numpy()[ids > 0]
            sure = Uncertainty(*(m.cpu().numpy() for m in maps))
            answers.append((self._table[winner.cpu().numpy()], sure, probabilities))
        return answers

    def embed(self, images: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """(N, D): what the encoder makes of each image as a whole, its last hidden state's mean over all places.

        Every image is seen once and whole, whatever `flip`, `scales` and `window` say. Raises as `segment`, and
        ModelError for a model without an encoder of its own.
        """
        arrays = [as_array(image) for image in images]
        self._ready()
        found = [np.zeros((0, 0), np.float32)]
        for start in range(0, len(arrays), self.batch_size):
            pixels = torch.stack([resize(a, self.loaded.size_hw) for a in arrays[start : start + self.batch_size]])
            with torch.inference_mode(), self._computing():
                found.append(embeddings_of(self.loaded.model, self._normalized(pixels)).cpu().numpy())
        return np.concatenate(found[1:]) if len(found) > 1 else found[0]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.loaded.model.parameters()).device

    def _in_batches(self, images: Iterable[ImageLike], pick: Pick, beside: Sequence[torch.Tensor] = ()) -> list[Found]:
        """What `pick` makes of the outputs for each image; `beside` = a map for each that it takes too, or nothing."""
        arrays = [as_array(image) for image in images]
        found: list[Found] = []
        size = self.batch_size if self.ways.window is None else 1  # an image has many windows
        for start in range(0, len(arrays), size):
            found += self._segment(arrays[start : start + size], pick, beside[start : start + size])
        return found

    def _segment(
        self, arrays: Sequence[npt.NDArray[np.uint8]], pick: Pick, beside: Sequence[torch.Tensor]
    ) -> list[Found]:
        self._ready()
        maps = [beside[i : i + 1] for i in range(len(arrays))]
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                views = self._plain_views(arrays) if self.ways.plain else self._views(arrays)
                found = [picked(v, a.shape[:2], pick, m) for v, a, m in zip(views, arrays, maps, strict=True)]
                finite = bool(torch.stack([torch.isfinite(view).all() for each in views for view in each]).all())
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
            elsewhere = "" if self.device.type == "cpu" else ", or --device cpu"
            raise ModelError(
                f"{len(arrays)} images at once do not fit into the memory of {self.device}",
                hint=f"choose a smaller --batch-size{elsewhere}",
            ) from None
        if not finite:
            raise ModelError(
                f"{self.loaded.source} gives outputs that are not finite",
                hint="its training diverged: train it again" if self.precision == "fp32" else "compute it in fp32",
            )
        return found

    def _plain_views(self, arrays: Sequence[npt.NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        """(C, h, w) outputs of each image, seen once; (h, w) class ids from an exported graph that gives those."""
        model: torch.nn.Module = self.loaded.model
        if isinstance(model, OnnxModel) and model.takes == "frames":  # it resizes by itself
            return [[outputs] for outputs in model.of_frames(arrays)]
        pixels = torch.stack([resize(a, self.loaded.size_hw) for a in arrays])
        return [[outputs] for outputs in self._outputs(pixels)]

    def _views(self, arrays: Sequence[npt.NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        """(C, h, w) outputs of each image in each of its views, from the smallest scale on, upright and mirrored."""
        found: list[list[torch.Tensor]] = [[] for _ in arrays]
        for grid in self._grids:
            canvases = [Canvas(array, grid, self.ways.window) for array in arrays]
            windows = [(canvas, place) for canvas in canvases for place in canvas.places]
            for mirrored in (False, True)[: 1 + self.ways.flip]:
                for start in range(0, len(windows), self.batch_size):
                    part = windows[start : start + self.batch_size]
                    pixels = torch.stack([canvas.pixels(place) for canvas, place in part])
                    outputs = self._outputs(pixels.flip(-1)).flip(-1) if mirrored else self._outputs(pixels)
                    for (canvas, place), output in zip(part, outputs, strict=True):
                        canvas.add(place, output)
                for views, canvas in zip(found, canvases, strict=True):
                    views.append(canvas.take())
        return found

    def _outputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) uint8 of the model's input size -> (N, C, h', w') float32 outputs, on the device."""
        with self._computing():
            outputs = logits_of(self.loaded.model, self._normalized(pixels))
            return outputs.float() if outputs.is_floating_point() else outputs

    def _computing(self) -> torch.autocast:
        """In the precision that was chosen, whatever the caller's context."""
        half = self.precision != "fp32" and not self._exported(*get_args(Takes))
        return torch.autocast(self.device.type, dtype=DTYPES.get(self.precision), enabled=half)

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        return normalize(pixels.to(self.device), mean=self.loaded.mean, std=self.loaded.std)

    def _grid(self, scale: float) -> Grid:
        """What the model makes of its input at a scale. Raises OptionError if it takes inputs of one size alone."""
        size_hw = scaled(self.loaded.size_hw, scale)
        self._ready()
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
                outputs = self._outputs(torch.zeros(1, 3, *size_hw, dtype=torch.uint8))
        except (RuntimeError, ValueError, IndexError, MemoryError) as e:
            if is_out_of_memory(e):
                raise ModelError(
                    f"an input of {size_hw[0]}x{size_hw[1]} does not fit into the memory of {self.device}",
                    hint=f"leave out --scales {scale:g}, or choose --device cpu",
                ) from None
            if scale == 1:
                raise
            own, wanted = ("x".join(map(str, size)) for size in (self.loaded.size_hw, size_hw))
            raise OptionError(
                f"--scales {scale:g}: {self.loaded.source} cannot take inputs of {wanted} in place of {own}",
                hint="--flip and --window leave its input as it is",
            ) from None
        return Grid(size_hw, (outputs.shape[2], outputs.shape[3]))

    def _exported(self, *kinds: str) -> bool:
        """Whether the model is an exported graph that takes or gives one of `kinds`."""
        model: torch.nn.Module = self.loaded.model
        return isinstance(model, OnnxModel) and bool({model.takes, model.gives} & set(kinds))

    def _require_logits(self, what: str) -> None:
        """Raises OptionError for a graph that answers at once, which leaves nothing to average."""
        if self._exported("classes") or (what.startswith("--") and self._exported("frames")):
            hint = "export the model with --takes normalized --gives logits"
            raise OptionError(f"{self.loaded.source} has no place for {what}: it takes or gives the whole", hint=hint)

    def _ready(self) -> None:
        if self.loaded.model.training:
            self.loaded.model.eval()
