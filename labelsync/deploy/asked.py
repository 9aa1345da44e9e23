"""What `export` is asked for, checked, and the images that it is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from labelsync.dataset.load import LabeledDataset
from labelsync.deploy.graph import axes_of
from labelsync.deploy.parity import DRAWN, Opener, drawn, of_files, of_rows, opened
from labelsync.errors import OptionError
from labelsync.evaluation.evaluate import short_name
from labelsync.labels import LabelMap
from labelsync.model.onnx import Gives, Takes
from labelsync.store.files import digest_of, sha256

_CALIBRATION = 64  # images that set the ranges of an int8 file


@dataclass(frozen=True)
class Settings:
    """What shapes the file and its proof, beside the model and the images."""

    takes: Takes
    gives: Gives
    dynamic: tuple[str, ...]
    opset: int
    precision: str
    limit: int
    runs: int
    batch_size: int


def settings_of(
    *,
    takes: str,
    gives: str,
    dynamic: Sequence[str],
    opset: int,
    quantize: str | None,
    fp16: bool,
    limit: int,
    runs: int,
    batch_size: int,
) -> Settings:
    """What was asked for. Raises OptionError for a value that cannot be used."""
    if takes not in get_args(Takes) or gives not in get_args(Gives):
        kinds = [", ".join(get_args(kind)) for kind in (Takes, Gives)]
        raise OptionError(f"takes {takes!r}, gives {gives!r}", hint=f"takes is {kinds[0]}; gives is {kinds[1]}")
    if quantize not in (None, "int8") or (quantize and fp16):
        raise OptionError("a file is in 8-bit integers or in 16-bit floats", hint="--quantize int8, or --fp16")
    if limit < 1 or runs < 0 or batch_size < 1:
        raise OptionError("--limit and --batch-size are 1 or more, --runs 0 or more", hint="leave them out")
    precision = "int8" if quantize else "fp16" if fp16 else "fp32"
    axes = axes_of(dynamic, cast("Takes", takes))
    at_once = batch_size if "batch" in axes else 1
    return Settings(cast("Takes", takes), cast("Gives", gives), axes, opset, precision, limit, runs, at_once)


@dataclass(frozen=True)
class Subject:
    """What the two are compared on, and an int8 file takes its ranges from; `labels` of labelled images."""

    what: str
    digest: str
    photos: Sequence[Opener]
    labels: LabelMap | None = None
    calibration: Sequence[Opener] = ()
    calibrated_on: str = ""


def subject_of(
    read: Callable[[str | Path], LabeledDataset],
    dataset: str | Path | None,
    split: str,
    images: Sequence[str | Path],
    settings: Settings,
) -> Subject:
    """The images. Raises OptionError for none, or for drawn ones where ranges are to be taken from them."""
    int8 = settings.precision == "int8"
    if dataset is not None:
        data = read(dataset)
        name = short_name(dataset)
        rows, train = data.splits[split], data.splits.get("train")
        source = ("train", train) if train else (split, rows)
        return Subject(
            f"the {split} split of {name}",
            data.digest,
            _some(of_rows(rows, settings.limit), f"the {split} split of {name}"),
            data.labels,
            of_rows(source[1], _CALIBRATION) if int8 else (),
            f"the {source[0]} split of {name}" if int8 else "",
        )
    if images:
        photos = of_files(images, settings.limit)
        digest = digest_of([sha256(photo.image.tobytes()) for photo in opened(photos)])
        ranges = of_files(images, _CALIBRATION) if int8 else []
        calibrated_on = f"{len(ranges)} images given" if int8 else ""
        return Subject(f"{len(photos)} images given", digest, photos, None, ranges, calibrated_on)
    if int8:
        raise OptionError("--quantize int8 takes its ranges from real images", hint="give --dataset or --images")
    return Subject(f"{DRAWN} drawn scenes", "drawn", drawn())


def _some(photos: Sequence[Opener], what: str) -> Sequence[Opener]:
    if not photos:
        raise OptionError(f"{what} is empty", hint="choose another --split, or give --images")
    return photos
