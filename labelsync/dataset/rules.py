"""The parameters of a conversion, checked, and completed by what an earlier round pinned."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync import store
from labelsync.dataset.source import DatasetFiles, find_dataset
from labelsync.dataset.split import FRACTIONS, GROUP_BY, Assignment, check_fractions
from labelsync.dataset.split_file import read_given
from labelsync.errors import OptionError
from labelsync.labels import Category, LabelMap, TaxonomyChanges, Unlabeled, from_categories
from labelsync.release.parse import check_status

COLUMNS = ("pixel_values,label", "image,label")
FORMATS = ("parquet", "bitmaps")
_WIDEST = 10_000  # pixels


@dataclass(frozen=True)
class Rules:
    """How to convert.

    Attributes:
        fractions: None where a file says which sample goes where.
        given: sample name, uuid or group -> split, from the file `where`; None without one.
        earlier: what is pinned; None in a first round.
        inputs, settings: what the result depends on besides the release.
    """

    labels: LabelMap
    changes: TaxonomyChanges
    status: tuple[str, ...]
    group_by: str
    fractions: tuple[float, float, float] | None
    given: dict[str, str] | None
    where: str
    earlier: Assignment | None
    line_width: float
    columns: tuple[str, str]
    format: str
    inputs: dict[str, str]
    settings: dict[str, Any]


def make_rules(
    categories: Iterable[Category],
    *,
    splits: str | Path | None,
    fractions: Sequence[float] | None,
    group_by: str | None,
    status: Iterable[str],
    unlabeled: str | None,
    previous: str | Path | None,
    allow_renumbering: bool,
    line_width: float | None,
    columns: str,
    format: str,
) -> Rules:
    """Rules from the parameters of `convert`.

    Raises:
        OptionError: a value that is none, or two that contradict each other or what is pinned.
        TaxonomyError: the categories do not fit the pinned map, or give nothing to train.
        DatasetNotFound, DatasetError, AuthError, ServiceError: no `previous` dataset.
    """
    if columns not in COLUMNS or format not in FORMATS:
        wrong, known = (columns, COLUMNS) if columns not in COLUMNS else (format, FORMATS)
        raise OptionError(f"{wrong!r} is none of {' and '.join(map(repr, known))}")
    files = None if previous is None else find_dataset(previous)
    earlier, given = _pinned(files, splits)
    group_by = _settled("--group-by", group_by, earlier.group_by if earlier else None, GROUP_BY)
    if fractions is not None and given is not None:
        raise OptionError("--fractions has no say beside --splits", hint="leave one of them out")
    shares = None if given is not None else earlier.fractions if earlier else FRACTIONS
    if fractions is not None:
        shares = check_fractions(fractions)
    labels, changes = _labels(categories, unlabeled, files, allow_renumbering=allow_renumbering)
    width = _line_width(line_width, files)
    image, label = columns.split(",")
    inputs = {"previous": files.manifest.digest} if files else {}
    if splits is not None:
        inputs["splits"] = store.sha256_file(Path(splits))
    status = check_status(status)
    return Rules(
        labels=labels,
        changes=changes,
        status=status,
        group_by=group_by,
        fractions=shares,
        given=given,
        where=f"--splits {splits}",
        earlier=earlier,
        line_width=width,
        columns=(image, label),
        format=format,
        inputs=inputs,
        settings={
            "status": list(status),
            "unlabeled": labels.unlabeled,
            "group_by": group_by,
            "fractions": shares,
            "line_width": width,
            "columns": columns,
            "format": format,
            "allow_renumbering": allow_renumbering,
        },
    )


def _pinned(files: DatasetFiles | None, splits: str | Path | None) -> tuple[Assignment | None, dict[str, str] | None]:
    """What is pinned, and what a file gives; a splits.json given as the file is pinned too."""
    earlier = files.assignment if files else None
    given = None if splits is None else read_given(Path(splits))
    if isinstance(given, Assignment):
        if earlier is not None:
            raise OptionError(f"--splits {splits} and --previous both pin splits", hint="leave one of them out")
        return given, None
    return earlier, given


def _settled(flag: str, asked: str | None, pinned: str | None, default: str) -> str:
    """The value of a parameter that an earlier round pins."""
    if asked is not None and pinned is not None and asked != pinned:
        raise OptionError(
            f"{flag} is {asked!r}, and the earlier round used {pinned!r}",
            hint=f"leave {flag} out, or leave out what pins it and start anew",
        )
    return asked or pinned or default


def _line_width(asked: float | None, files: DatasetFiles | None) -> float:
    """Pixels; another width than the earlier round's is no contradiction: it moves no number and no sample."""
    width = asked if asked is not None else files.manifest.settings.get("line_width", 0.0) if files else 0.0
    if width != 0 and not 1 <= width <= _WIDEST:  # a NaN is refused too
        raise OptionError(f"--line-width is {width:g}", hint=f"it is 1 to {_WIDEST} pixels, or 0 to draw no lines")
    return float(width)


def _labels(
    categories: Iterable[Category], unlabeled: str | None, files: DatasetFiles | None, *, allow_renumbering: bool
) -> tuple[LabelMap, TaxonomyChanges]:
    known = files.labels if files else None
    mode = _settled("--unlabeled", unlabeled, known.unlabeled if known else None, "ignore")
    if mode not in ("ignore", "class"):
        raise OptionError(f"unlabeled is {mode!r}", hint="it is 'ignore' or 'class'")
    if known is None:
        checked: Unlabeled = "class" if mode == "class" else "ignore"
        labels, changes = from_categories(categories, unlabeled=checked), TaxonomyChanges()
    else:
        labels, changes = known.extended(categories, allow_renumbering=allow_renumbering)
    labels.require_trainable()
    return labels, changes
