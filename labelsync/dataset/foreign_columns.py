"""Which column of a foreign dataset is the image and which the label, and what its features say of classes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from labelsync.errors import DatasetError

# What people call them, the likeliest first.
_IMAGE_NAMES = ("image", "pixel_values", "images", "img", "imgs", "jpegimages", "photo", "rgb")
_LABEL_NAMES = (
    *("label", "labels", "annotation", "annotations", "segmentation_mask", "segmentation_masks", "mask", "masks"),
    *("segmentation", "segmentations", "semantic_segmentation", "semantic", "seg", "seg_map", "segmentation_map"),
    *("segmentationclass", "label_map", "semantic_mask", "bitmap", "bitmaps", "trimap", "trimaps", "gt"),
)

_FILE_NAMES = ("name", "file_name", "filename", "image_name", "image_id")


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns of feature type Image; where no features were written, those that look like one to Arrow."""
    features = features_of(schema)
    if features:
        return [n for n, f in features.items() if isinstance(f, Mapping) and f.get("_type") == "Image"]
    return [f.name for f in schema if pa.types.is_struct(f.type) and {c.name for c in f.type} == {"bytes", "path"}]


def class_columns(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> class names, of every column that lists ClassLabels.

    A column of single ones is about the image, not its pixels.
    """
    found = {name: _class_names(feature, listed=False) for name, feature in features_of(schema).items()}
    return {name: names for name, names in found.items() if names}


def name_column(schema: pa.Schema) -> str | None:
    """A column of text that holds the images' file names, or None."""
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return next((n for n in _FILE_NAMES if n in texts), None)


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """The features that `datasets` writes into Parquet files, as JSON; empty where something else wrote the file."""
    try:
        features: dict[str, Any] = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def pick(
    candidates: Sequence[str], image: str | None, label: str | None, *, name: str, what: str = "column"
) -> tuple[str, str]:
    """(image column, label column): what was asked for, else two candidates whose names tell them apart.

    Args:
        candidates: columns that hold images.
        name: of the dataset.
        what: they are "column" or "folder".

    Raises:
        DatasetError: one is not there, or it is not clear which it is; the candidates are named.
    """
    for flag, wanted in (("image", image), ("label", label)):
        if wanted is not None and wanted not in candidates:
            raise DatasetError(
                f"{name} has no {flag} {what} {wanted!r}", hint=f"{what}s of images: {', '.join(candidates) or 'none'}"
            )
    if image is not None and image == label:
        raise DatasetError(f"{what} {image!r} of {name} cannot be both image and label", hint="name two")
    if image is None and label is None and len(candidates) > 2:
        raise _unclear(candidates, name, what, "image and which the label")
    if image is None:
        image = _guess([c for c in candidates if c != label], _IMAGE_NAMES, _LABEL_NAMES)
    if image is None:
        raise _unclear(candidates, name, what, "image")
    if label is None:
        label = _guess([c for c in candidates if c != image], _LABEL_NAMES, _IMAGE_NAMES)
    if label is None:
        raise _unclear([c for c in candidates if c != image], name, what, "label")
    return image, label


def _guess(candidates: Sequence[str], likely: Sequence[str], unlikely: Sequence[str]) -> str | None:
    """The one candidate of a likely name, or the only one whose name is not unlikely."""
    named = [c for c in candidates if c.lower() in likely]
    if len(named) == 1:
        return named[0]
    rest = [c for c in candidates if c.lower() not in unlikely]
    return rest[0] if len(rest) == 1 and not named else None


def _unclear(candidates: Sequence[str], name: str, what: str, wanted: str) -> DatasetError:
    if not candidates:
        return DatasetError(
            f"{name} has no {what} of images that could be its {wanted}",
            hint="labels are images of class numbers, one per image; look at its columns on the Hub",
        )
    return DatasetError(
        f"{name} does not say which {what} is the {wanted}: {', '.join(candidates)}",
        hint="choose with --image-column and --label-column",
    )


def _class_names(feature: Any, *, listed: bool) -> list[str]:
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, Mapping):
        return []
    if feature.get("_type") == "ClassLabel":
        return [str(n) for n in feature.get("names") or ()] if listed else []
    return _class_names(feature["feature"], listed=True) if "feature" in feature else []
