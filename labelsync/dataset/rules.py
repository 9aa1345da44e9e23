"""The parameters of a conversion, checked, and completed by what an earlier round pinned."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.dataset.arrange import arrange, with_sources
from labelsync.dataset.metadata import read_metadata
from labelsync.dataset.recognise import Taxonomy
from labelsync.dataset.source import DatasetFiles, find_dataset
from labelsync.dataset.split import FRACTIONS, GROUP_BY, Assignment, check_fractions
from labelsync.dataset.split_file import read_given
from labelsync.errors import OptionError
from labelsync.labels import LabelMap, Unlabeled, from_categories
from labelsync.release.labels_file import LabelsFile, read_labels_file
from labelsync.release.parse import check_status
from labelsync.store.files import sha256_file
from labelsync.taxonomy import TaxonomyChanges

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
        metadata: key -> the values of which a sample must have one.
        split_by: "metadata.KEY" if its values say the samples' splits or groups, which `split_by.with_split_by` finds
            out; `asked_group_by`, `asked_fractions` = what the user said beside it.
        previous: the earlier round's dataset, whose rows may be taken over.
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
    metadata: Mapping[str, tuple[str, ...]]
    split_by: str = ""
    asked_group_by: str | None = None
    asked_fractions: bool = False
    previous: DatasetFiles | None = None


def make_rules(
    taxonomies: Sequence[Taxonomy],
    *,
    labels: str | Path | None,
    splits: str | Path | None,
    split_by: str | None,
    fractions: Sequence[float] | None,
    group_by: str | None,
    status: Iterable[str],
    metadata: Sequence[str],
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
    asked_group_by = group_by
    group_by = _settled("--group-by", group_by, earlier.group_by if earlier else None, GROUP_BY)
    if fractions is not None and given is not None:
        raise OptionError("--fractions has no say beside --splits", hint="leave one of them out")
    shares = None if given is not None else earlier.fractions if earlier else FRACTIONS
    if fractions is not None:
        shares = check_fractions(fractions)
    split_by = _split_by(split_by, splits, earlier if fractions is None else None)
    file = None if labels is None else read_labels_file(Path(labels))
    label_map, changes = _labels(taxonomies, unlabeled, files, file, allow_renumbering=allow_renumbering)
    width = _line_width(line_width, files)
    image, label = columns.split(",")
    status, chosen = check_status(status), read_metadata(metadata)
    return Rules(
        labels=label_map,
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
        inputs=_inputs(files, splits=splits, labels=labels),
        settings={
            "status": list(status),
            "metadata": {key: list(values) for key, values in chosen.items()},
            "unlabeled": label_map.unlabeled,
            "split_by": split_by,
            "group_by": group_by,
            "fractions": shares,
            "line_width": width,
            "columns": columns,
            "format": format,
            "allow_renumbering": allow_renumbering,
        },
        metadata=chosen,
        split_by=split_by,
        asked_group_by=asked_group_by,
        asked_fractions=fractions is not None,
        previous=files,
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


def _inputs(files: DatasetFiles | None, **given: str | Path | None) -> dict[str, str]:
    """Digests of the earlier dataset and of the files that flags name."""
    inputs = {"previous": files.manifest.digest} if files else {}
    return inputs | {name: sha256_file(Path(path)) for name, path in given.items() if path is not None}


def _settled(flag: str, asked: str | None, pinned: str | None, default: str) -> str:
    """The value of a parameter that an earlier round pins."""
    if asked is not None and pinned is not None and asked != pinned:
        raise OptionError(
            f"{flag} is {asked!r}, and the earlier round used {pinned!r}",
            hint=f"leave {flag} out, or leave out what pins it and start anew",
        )
    return asked or pinned or default


def _split_by(asked: str | None, splits: str | Path | None, earlier: Assignment | None) -> str:
    """The value of --split-by, or what pins it where nothing else says how to split."""
    if asked is None:
        return earlier.split_by if earlier is not None and splits is None else ""
    if splits is not None:
        raise OptionError("--split-by and --splits both say which sample goes where", hint="leave one of them out")
    if not asked.startswith("metadata.") or asked == "metadata.":
        raise OptionError(f"--split-by {asked!r} is no rule", hint="write --split-by metadata.KEY")
    return asked


def _line_width(asked: float | None, files: DatasetFiles | None) -> float:
    """Pixels; another width than the earlier round's is no contradiction: it moves no number and no sample."""
    width = asked if asked is not None else files.manifest.settings.get("line_width", 0.0) if files else 0.0
    if width != 0 and not 1 <= width <= _WIDEST:  # a NaN is refused too
        raise OptionError(f"--line-width is {width:g}", hint=f"it is 1 to {_WIDEST} pixels, or 0 to draw no lines")
    return float(width)


def _labels(
    taxonomies: Sequence[Taxonomy],
    unlabeled: str | None,
    files: DatasetFiles | None,
    file: LabelsFile | None,
    *,
    allow_renumbering: bool,
) -> tuple[LabelMap, TaxonomyChanges]:
    known = files.labels if files else None
    mode = _settled("--unlabeled", unlabeled, known.unlabeled if known else None, "ignore")
    if mode not in ("ignore", "class"):
        raise OptionError(f"unlabeled is {mode!r}", hint="it is 'ignore' or 'class'")
    checked: Unlabeled = "class" if mode == "class" else "ignore"
    before = files.manifest.summary["dataset"] if files else ""
    is_other = bool(before and taxonomies[0].dataset) and before != taxonomies[0].dataset  # whose ids mean other things
    if file is not None or len(taxonomies) > 1 or (known is not None and (known.sources or is_other)):
        known = None if known is None else with_sources(known, before)
        labels, changes = arrange(
            taxonomies, file=file, known=known, unlabeled=checked, allow_renumbering=allow_renumbering
        )
    elif known is None:
        labels, changes = from_categories(taxonomies[0].categories, unlabeled=checked), TaxonomyChanges()
    else:
        labels, changes = known.extended(taxonomies[0].categories, allow_renumbering=allow_renumbering)
    labels.require_trainable()
    return labels, changes
