"""`get_semantic_bitmap` of the Segments.ai SDK, with its signature and without its faults."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.errors import BitmapError
from labelsync.labels import MAX_UINT8_CLASSES
from labelsync.pixels.instance import ids_of_image
from labelsync.pixels.semantic import instance_classes, to_semantic


def get_semantic_bitmap(
    instance_bitmap: npt.NDArray[Any] | Image.Image | None = None,
    annotations: Iterable[Any] | None = None,
    id_increment: int = 0,
) -> npt.NDArray[Any] | None:
    """An instance bitmap and its annotations -> a semantic bitmap of `category_id + id_increment`, 0 = unlabeled.

    Stands in for `segments.utils.get_semantic_bitmap`. Where that one gave wrong numbers silently, this one raises.

    Args:
        instance_bitmap: (H, W) integers, or a PIL image: one channel of ids, or the RGBA (RGB, palette) that
            Segments.ai writes, also as a (H, W, 3|4) uint8 array. 0 = unlabeled.
        annotations: dicts or SDK objects with `id` and `category_id`, in any order. [] is a label without objects.
        id_increment: added to every category id. A category that would become 0 could not be told from unlabeled, so
            a real category 0 needs `id_increment=1`.

    Returns:
        (H, W) uint8, or uint16 where a class exceeds 254; None if the bitmap or the annotations are None. Memory does
        not depend on how large an id is.

    Raises:
        BitmapError: a pixel has an id without annotation, one id has two categories, a class would be 0 or less or
            exceed 65535, or an argument is no bitmap or no list of annotations.
    """
    if instance_bitmap is None or annotations is None:
        return None
    pairs = [_pair(a, i) for i, a in enumerate(annotations, 1)]
    classes = {category: category + id_increment for _, category in pairs}
    _refuse_outside(classes, id_increment)
    dtype = np.uint8 if max(classes.values(), default=0) <= MAX_UINT8_CLASSES else np.uint16
    return to_semantic(_ids(instance_bitmap), instance_classes(pairs, classes), dtype=dtype)


def _refuse_outside(classes: Mapping[int, int], id_increment: int) -> None:
    for category, number in classes.items():
        if number <= 0:
            raise BitmapError(
                f"category {category} would become {number} under id_increment={id_increment}, and 0 means unlabeled",
                hint=f"pass id_increment={1 - min(classes)} and number the id2label so; "
                "release2dataset has done that for a category 0 and id_increment=1",
            )
        if number > np.iinfo(np.uint16).max:
            raise BitmapError(
                f"category {category} becomes {number}, and a bitmap holds classes to 65535",
                hint="labelsync pull and convert number the classes 1..K",
            )


def _pair(annotation: Any, position: int) -> tuple[int, int]:
    """(instance id, category id) of a dict or of an object of the SDK."""
    values = annotation if isinstance(annotation, Mapping) else getattr(annotation, "__dict__", {})
    number, category = values.get("id"), values.get("category_id")
    number = values.get("track_id") if number is None else number  # the newest API calls it so
    return _integer(number, position), _integer(category, position)


def _integer(value: Any, position: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BitmapError(f"annotation {position} has no integer id and category_id")
    return int(value)


def _ids(bitmap: Any) -> npt.NDArray[np.uint32]:
    """(H, W) uint32 instance ids of anything that can be a bitmap."""
    if isinstance(bitmap, Image.Image):
        return ids_of_image(bitmap)
    array = np.asarray(bitmap)
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        return ids_of_image(Image.fromarray(array))
    if array.ndim != 2 or array.dtype.kind not in "ui":
        raise BitmapError(f"an instance bitmap is (H, W) integers, not {array.shape} {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= np.iinfo(np.uint32).max:
        raise BitmapError(f"instance ids are 0 to 2^32 - 1, not {int(array.min())} to {int(array.max())}")
    return array.astype(np.uint32)
