"""Datasets whose `id2label` goes where the data goes, and whose bitmaps stay small.

`datasets` copies an attribute along in rename_column and loses it in map, shuffle, select, shard and train_test_split.
Here every method that makes a dataset of this one hands it on, so the class map is there when the data is published.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

import datasets
import numpy as np

from labelsync.labels import MAX_UINT8_CLASSES
from labelsync.pixels.semantic import encode_semantic

Id2label = dict[int, str]


class CarryingDataset(datasets.Dataset):  # type: ignore[misc] # datasets is untyped
    """A `datasets.Dataset` with an `id2label` (int keys, 0 = "unlabeled", sorted, no gap) that its methods keep.

    Kept by every method that returns a Dataset or DatasetDict (map, filter, select, shuffle, sort, shard,
    train_test_split, rename_column, cast, with_format, ..), by copy and by pickle. Not kept by functions that make a
    dataset of several or of files: `concatenate_datasets`, `interleave_datasets`, `load_from_disk`, nor by
    `to_iterable_dataset`; there, `carried(result, id2label=dataset.id2label)` puts it back on a Dataset. It can be
    assigned: whoever changes the numbers of the labels says so.
    """

    id2label: Id2label
    dict_class: "type[CarryingDatasetDict]"

    def kept(self, result: Any) -> Any:
        """`result` of a method of this dataset, with the id2label if it is a dataset."""
        return carried(result, id2label=self.id2label, like=type(self))

    def map(self, function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `datasets.Dataset.map`; a (H, W) array of numbers returned for an image column becomes a PNG at once.

        `datasets` by itself takes such an array through lists of int64 to a TIFF of 4 bytes per pixel.
        """
        columns = tuple(name for name, feature in self.features.items() if isinstance(feature, datasets.Image))
        if function is not None and not inspect.iscoroutinefunction(function):
            function = _WithPngs(function, columns)
        return self.kept(super().map(function, *args, **kwargs))


class CarryingDatasetDict(datasets.DatasetDict):  # type: ignore[misc]
    """Split -> CarryingDataset, as train_test_split leaves it; its methods keep the id2label too."""

    dataset_class: type[CarryingDataset]

    @property
    def id2label(self) -> Id2label:
        """That of the splits; they come from one dataset."""
        return cast("Id2label", next(iter(self.values())).id2label) if self else {}

    def kept(self, result: Any) -> Any:
        """`result` of a method of this, with the id2label if it is a DatasetDict."""
        return carried(result, id2label=self.id2label, like=self.dataset_class)


def carried(result: Any, *, id2label: Id2label, like: type[CarryingDataset]) -> Any:
    """A Dataset or DatasetDict as one that carries `id2label`; anything else as it is.

    Args:
        like: the class that a Dataset becomes.
    """
    if isinstance(result, datasets.Dataset):
        if not isinstance(result, CarryingDataset):
            result.__class__ = like  # no copy: the rows, the format and the fingerprint are already right
        result.id2label = dict(id2label)
    elif isinstance(result, datasets.DatasetDict):
        for part in result.values():
            carried(part, id2label=id2label, like=like)
        result.__class__ = like.dict_class
    return result


@dataclass(frozen=True)
class _WithPngs:
    """A function for `map` whose bitmaps are PNGs; a class, so that other processes can have it."""

    function: Callable[..., Any]
    columns: tuple[str, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.function(*args, **kwargs)
        if isinstance(result, MutableMapping):
            values: Mapping[str, Any] = getattr(result, "data", result)  # of a row itself: what is decoded already
            for name in self.columns:
                value = values.get(name)
                if isinstance(value, list):
                    result[name] = [_with_png(v) for v in value]
                elif isinstance(value, np.ndarray):
                    result[name] = _with_png(value)
        return result


def _with_png(value: Any) -> Any:
    """A (H, W) array of ids as an image of `datasets`; anything else as it is."""
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "ui" or not value.size:
        return value
    top = int(value.max())
    if int(value.min()) < 0 or top > np.iinfo(np.uint16).max:
        return value
    return {"bytes": encode_semantic(value.astype(np.uint8 if top <= MAX_UINT8_CLASSES else np.uint16)), "path": None}


def _keeping(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: CarryingDataset | CarryingDatasetDict, *args: Any, **kwargs: Any) -> Any:
        return self.kept(method(self, *args, **kwargs))

    return call


def _keep_all(carrying: type, vendor: type) -> None:
    """Wrap every public method of the vendor's class that `carrying` does not have by itself."""
    for name, method in vars(vendor).items():
        if inspect.isfunction(method) and not name.startswith("_") and name not in vars(carrying):
            setattr(carrying, name, _keeping(method))


_keep_all(CarryingDataset, datasets.Dataset)
_keep_all(CarryingDatasetDict, datasets.DatasetDict)
CarryingDataset.dict_class, CarryingDatasetDict.dataset_class = CarryingDatasetDict, CarryingDataset
