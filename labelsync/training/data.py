"""Rows of a dataset to training batches: decode, vary, number as the model does.

The key of an item is (epoch, index): the sampler knows the epoch and hands it to whatever process loads the item, so
loading processes that outlive an epoch, or start in the middle of one, need to be told nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from labelsync.errors import BitmapError, DatasetError, LabelsyncError
from labelsync.labels import LabelMap
from labelsync.pixels.image import Reduced, decode_image, decode_reduced
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.training.augment import RGB, apply, draw, generator, largest_step, settled
from labelsync.training.kept_images import KeptImages
from labelsync.training.knobs import Augment

Key = tuple[int, int]
Item = tuple[torch.Tensor, torch.Tensor]


class TrainingData(Dataset[Item | LabelsyncError]):
    """The training split, varied. An item is `((3, h, w) uint8 pixels, (h, w) model ids)`.

    Model ids are uint8 up to 254 classes and int32 above, ignored pixels `LabelMap.ignore_index`. A row that cannot be
    used is returned as its error: raised in a loading process it would arrive wrapped in that process's traceback.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        labels: LabelMap,
        *,
        size_hw: tuple[int, int],
        augment: Augment,
        fill: RGB = (0, 0, 0),
        seed: int = 0,
        kept: KeptImages | None = None,
    ) -> None:
        self.rows = rows
        self.labels = labels
        self.size_hw = size_hw
        self.augment = augment
        self.fill = fill
        self.seed = seed
        self.kept = kept

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Item | LabelsyncError:
        epoch, index = key
        row = self.rows[index % len(self.rows)]
        drawn = draw(self.augment, seed=self.seed, epoch=epoch, index=index)
        try:
            label = decode_label(row, self.labels)
            image = self._read(row, label, step=largest_step(label.shape, drawn, size_hw=self.size_hw))
        except LabelsyncError as e:
            return e
        drawn = settled(drawn, label, most=self.augment.max_class_share)
        pixels, ids = apply(image.pixels, label, drawn, size_hw=self.size_hw, fill=self.fill, step=image.step)
        return pixels, to_model_ids(ids, self.labels)

    def _read(self, row: Row, label: npt.NDArray[Any], *, step: float) -> Reduced:
        """The image of a row, of the size of its label. Raises DatasetError as `decode`."""
        read = self.kept.read if self.kept else decode_reduced
        try:
            image = read(row.image, step=step)
        except BitmapError as e:
            raise DatasetError(f"{_named(row)}: {e.message}", hint="convert the release again") from None
        _require_one_size(row, image.size_hw, label.shape)
        return image


class EpochSampler(Sampler[Key]):
    """Keys (epoch, index) of every sample once, in an order drawn from (seed, epoch) alone.

    With `factors`, still as many keys, but an image comes as often as its factor says. Of an image that comes again the
    index is higher by `length` each time, so that every copy is varied in its own way.

    Where the last batch would be a single image, the first image of the order comes again: batch norms over a pooled
    1 x 1 map, which six of the eight architectures have, refuse a single value.

    `epoch` is set before each pass by the Trainer's callback. It is deliberately not `set_epoch`, which accelerate and
    the Trainer call on some of their wrappers and not on others, and with other numbers.
    """

    def __init__(self, length: int, *, seed: int, batch_size: int = 1, factors: Sequence[float] | None = None) -> None:
        self.length = length
        self.seed = seed
        self.factors = factors
        self.again = 1 if batch_size > 1 and length % batch_size == 1 else 0
        self.epoch = 0

    def __len__(self) -> int:
        return self.length + self.again

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        indices = order(self.length, seed=self.seed, epoch=epoch)
        if self.factors is not None:
            indices = self._repeated(indices, epoch)
        return iter([(epoch, index) for index in [*indices, *indices[: self.again]]])

    def _repeated(self, indices: list[int], epoch: int) -> list[int]:
        """The indices of an epoch in which image i comes as often as its factor says."""
        copies = whole_copies(self.factors, indices, generator(f"labelsync repeat {self.seed} {epoch}").random())
        keys = {index + self.length * copy for index in indices for copy in range(copies[index])}
        highest = self.length * max(copies, default=0)
        return [key for key in order(highest, seed=self.seed, epoch=epoch) if key in keys]


def order(length: int, *, seed: int, epoch: int) -> list[int]:
    """0..length-1 sorted by a hash of (seed, epoch, index): a shuffle that no library version changes."""
    start = hashlib.sha256(f"labelsync order {seed} {epoch} ".encode())

    def rank(index: int) -> bytes:
        digest = start.copy()
        digest.update(str(index).encode())
        return digest.digest()

    return sorted(range(length), key=rank)


def whole_copies(factors: Any, order: Sequence[int], offset: float) -> list[int]:
    """Copies of each image, in all as many as there are images, each within one of its share of them.

    Systematic sampling: the shares are laid end to end along `order`, and every whole number plus `offset` (0..1)
    falls into one of them. Alike factors give one copy each.
    """
    shares = np.asarray(factors, np.float64) * (len(order) / float(np.sum(factors)))
    ends = np.round(np.cumsum(shares[list(order)]), 9) + offset
    marks = np.floor(ends).astype(np.int64)
    marks[-1] = len(order)  # what rounding left
    copies = np.zeros(len(order), np.int64)
    copies[list(order)] = np.diff(marks, prepend=0)
    return [int(n) for n in copies]


def collate(items: Sequence[Item | LabelsyncError]) -> dict[str, Any]:
    """Items to `pixel_values` (N, 3, h, w) uint8 and `labels` (N, h, w); or `error`, the first of the batch."""
    whole = []
    for item in items:
        if isinstance(item, LabelsyncError):
            return {"error": item}
        whole.append(item)
    pixels, labels = zip(*whole, strict=True)
    return {"pixel_values": torch.stack(pixels), "labels": torch.stack(labels)}


def decode(row: Row, labels: LabelMap) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """A row as (H, W, 3) uint8 image and (H, W) disk ids.

    Raises:
        DatasetError: not decodable, of two sizes, or with a value outside the class list; the sample is named.
    """
    try:
        image = decode_image(row.image)
    except BitmapError as e:
        raise DatasetError(f"{_named(row)}: {e.message}", hint="convert the release again") from None
    label = decode_label(row, labels)
    _require_one_size(row, image.shape[:2], label.shape)
    return image, label


def decode_label(row: Row, labels: LabelMap) -> npt.NDArray[Any]:
    """A row's (H, W) disk ids. Raises DatasetError as `decode`."""
    try:
        label = decode_semantic(row.label)
    except BitmapError as e:
        raise DatasetError(f"{_named(row)}: {e.message}", hint="convert the release again") from None
    highest = int(label.max(initial=0))
    if highest > labels.num_labels:
        raise DatasetError(
            f"{_named(row)}: its label holds the value {highest}, and the classes are 1 to {labels.num_labels}",
            hint="check id2label.json, or convert the release again",
        )
    return label


def _require_one_size(row: Row, image: tuple[int, ...], label: tuple[int, ...]) -> None:
    if image != label:
        raise DatasetError(
            f"{_named(row)}: the image is {_hw(image)} and its label {_hw(label)}",
            hint="correct that sample, or leave it out",
        )


def to_model_ids(ids: npt.NDArray[Any], labels: LabelMap) -> torch.Tensor:
    """(H, W) disk ids -> model ids, 0 -> the ignore index; uint8 up to 254 classes, int32 above."""
    if labels.ignore_index == np.iinfo(np.uint8).max:
        return torch.from_numpy(ids.astype(np.uint8) - np.uint8(1))  # 0 wraps to 255, which is the ignore index
    return torch.from_numpy(labels.to_model_ids(ids).astype(np.int32))


def require_labelled(rows: Sequence[Row], labels: LabelMap, *, split: str) -> None:
    """Raises DatasetError unless some pixel of the split is labelled; looks no further than the first that is."""
    if not any(decode(row, labels)[1].any() for row in rows):
        raise DatasetError(
            f"no pixel of the {split} split is labelled", hint="look at the labels, or convert with other splits"
        )


def _named(row: Row) -> str:
    return f"sample {row.name} ({row.uuid})" if row.uuid and row.uuid != row.name else f"sample {row.name}"


def _hw(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
