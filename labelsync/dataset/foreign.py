"""A dataset that labelsync did not make, as rows and a label map: Parquet files, or images with labels beside them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from labelsync.dataset.foreign_columns import class_columns, image_columns, name_column, pick
from labelsync.dataset.foreign_files import CONVERTED, README, ForeignFiles, has_script, list_files
from labelsync.dataset.foreign_folder import METADATA, find_pairs
from labelsync.dataset.foreign_labels import Numbering, read_labels
from labelsync.dataset.foreign_layout import choose, configurations, is_partial, normal_name
from labelsync.dataset.foreign_rows import FileItems, ForeignRows, Items, ParquetItems
from labelsync.dataset.split import FRACTIONS, SPLITS, Assignment, assign
from labelsync.errors import DatasetError, DatasetNotFound
from labelsync.labels import LabelMap
from labelsync.store.files import digest_of


@dataclass(frozen=True)
class Choices:
    """What a user says of a foreign dataset; None = it says so itself.

    Attributes:
        image_column, label_column: names of columns, or of folders where there are no columns.
        id2label: a JSON file, a Hub dataset repo "user/name[@revision][:file]", or a column that names classes.
        keep_zero: 0 is a class and not unlabeled.
        config: the configuration, also called subset.
    """

    image_column: str | None = None
    label_column: str | None = None
    id2label: str | Path | None = None
    keep_zero: bool = False
    config: str | None = None

    @property
    def given(self) -> list[str]:
        """The flags of those that were made."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value not in (None, False)]


@dataclass(frozen=True)
class Foreign:
    """What `open_foreign` found.

    Attributes:
        splits: split -> rows.
        digest: of the files that hold the rows, and of what was said about them.
        revision: the commit on the Hub; "" for a folder.
        notes: lines for the user: what was decided that could have been decided otherwise.
    """

    labels: LabelMap
    splits: Mapping[str, ForeignRows]
    digest: str
    revision: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """The samples and the files they are in, by split as the dataset calls it, and what their columns say."""

    items: Mapping[str, Items]
    files: Mapping[str, Sequence[str]]
    columns: tuple[str, str]
    classes: Mapping[str, list[str]]
    notes: tuple[str, ...] = ()


def open_foreign(source: str | Path, choices: Choices) -> Foreign:
    """A folder or Hub id that holds a dataset, though none of labelsync.

    Raises:
        DatasetNotFound: it holds no rows that can be read, or there is no id2label where `choices` points.
        DatasetError: it is not clear what is the image, the label or the class names; or they do not fit.
        TaxonomyError: the id2label names no proper classes.
        AuthError, ServiceError: the Hub does not show it, or does not answer.
    """
    files = list_files(source)
    found = _parquet(files, choices) or _plain(files, choices)
    if found is None:
        raise _nothing(files)
    labels, where = read_labels(files, choices.id2label, found.classes, keep_zero=choices.keep_zero)
    numbering = Numbering(labels, choices.keep_zero)
    splits, notes = _splits(files.name, found.items, numbering)
    about = f"{files.name}: {labels.num_labels} classes of {where}; in its labels {numbering.described}"
    branch = [f"{files.name}: read from {CONVERTED}, what the Hub made of it"] * (
        files.branch == CONVERTED not in files.name
    )
    made_of = {
        "files": {s: {f: files.content(f) for f in _seen(paths)} for s, paths in found.files.items()},
        "columns": found.columns,
        "classes": labels.names,
        "keep_zero": choices.keep_zero,
    }
    return Foreign(labels, splits, digest_of(made_of), files.revision, (*branch, about, *found.notes, *notes))


# -------------------------------------------------------------------- what holds the rows


def _parquet(files: ForeignFiles, choices: Choices) -> _Found | None:
    paths = [f for f in files.files if f.endswith(".parquet") and Path(f).name not in METADATA]
    card = _card(files)
    found = {config: splits for config, splits in configurations(paths, card).items() if splits}
    if not found:
        return None
    config = choose(found, choices.config, card, name=files.name)
    splits = found[config]
    first = next(iter(splits.values()))[0]
    schema: pa.Schema = files.metadata(first).schema.to_arrow_schema()
    columns = pick(image_columns(schema), choices.image_column, choices.label_column, name=files.name)
    partial = [s for s in splits if is_partial(s)]
    notes = [f"{files.name}: the Hub has only the beginning of {normal_name(s)} as Parquet" for s in partial]
    items = {
        s: ParquetItems(files, paths, split=s, columns=columns, name=name_column(schema)) for s, paths in splits.items()
    }
    return _Found(items, splits, columns, class_columns(schema), tuple(notes))


def _plain(files: ForeignFiles, choices: Choices) -> _Found | None:
    found = find_pairs(files, choices.image_column, choices.label_column)
    if found is None or not found.pairs:
        return None
    if choices.config is not None:
        raise DatasetError(f"{files.name} has no configurations", hint="leave out --config")
    labelled = {s: tuple(p for p in pairs if p[1]) for s, pairs in found.pairs.items()}
    notes = [f"{files.name}: {found.without} images without a label are left out"] if found.without else []
    items = {s: FileItems(files, pairs) for s, pairs in labelled.items() if pairs}
    data = {s: tuple(f for pair in pairs for f in pair) for s, pairs in labelled.items()}
    return _Found(items, data, found.columns, {}, tuple(notes))


def _seen(files: Sequence[str]) -> Iterable[str]:
    """The files of a split, under a bar for those that are read to know their content."""
    bar: tqdm[str] = tqdm(sorted(files), desc="look", unit="file", disable=None, file=sys.stderr, leave=False)
    return bar


def _card(files: ForeignFiles) -> dict[str, Any]:
    """What stands at the head of README.md; nothing of it counts for the files that the Hub made."""
    if files.branch == CONVERTED or README not in files.files:
        return {}
    from huggingface_hub import DatasetCard

    try:
        return vars(DatasetCard(files.text(README), ignore_metadata_errors=True).data)
    except ValueError:
        return {}  # a head that is no YAML says nothing about files


def _nothing(files: ForeignFiles) -> DatasetNotFound:
    if files.repo and has_script(files):
        return DatasetNotFound(
            f"{files.name} is read by a program of its own ({files.repo.rpartition('/')[2]}.py), and the Hub has made "
            "no Parquet files of it",
            hint="look for a copy of it in Parquet on the Hub, or give a folder of images and labels",
        )
    if any(Path(f).name in ("dataset_info.json", "state.json", "dataset_dict.json") for f in files.files):
        return DatasetNotFound(
            f"{files.name} was saved by save_to_disk", hint="save every split by its to_parquet, as train.parquet, ..."
        )
    return DatasetNotFound(
        f"{files.name} was not made by labelsync (it has no manifest.json), and holds neither Parquet files nor images "
        "with labels",
        hint="give a dataset folder, a Hub id user/name[@revision], or a folder with images/ and labels/",
    )


# -------------------------------------------------------------------- splits


def _splits(name: str, items: Mapping[str, Items], numbering: Numbering) -> tuple[dict[str, ForeignRows], list[str]]:
    """Split -> rows under the names that labelsync uses, and what has to be said of it."""
    ours: dict[str, Items] = {}
    renamed = []
    for theirs, found in items.items():
        known = normal_name(theirs)
        key = theirs if known in items and known != theirs else known
        renamed += [f"{theirs} is {key}"] * (key != theirs and not is_partial(theirs))
        ours[key] = found
    notes = [f"{name}: split {', '.join(renamed)}"] if renamed else []
    rows = {split: ForeignRows(found, numbering) for split, found in ours.items()}
    if "train" in ours and "validation" not in ours:
        made = _dealt(name, ours["train"], with_test="test" not in ours)
        rows |= {split: ForeignRows(ours["train"], numbering, select=chosen) for split, chosen in made.items()}
        shares = ", ".join(f"{len(chosen)} {split}" for split, chosen in made.items())
        notes.append(f"{name} has no validation split: its train rows are dealt out by a stable hash: {shares}")
    order = [*(s for s in SPLITS if s in rows), *(s for s in rows if s not in SPLITS)]
    return {split: rows[split] for split in order}, notes


def _dealt(name: str, items: Items, *, with_test: bool) -> dict[str, tuple[int, ...]]:
    """Split -> indices into `items`. Each goes by the hash of its key alone, so that more samples move none; only where
    that leaves a split empty, the few there are fill the shares in order of their hashes.

    Raises:
        DatasetError: fewer samples than splits.
    """
    train, validation, test = FRACTIONS
    fractions = (train, validation, test) if with_test else (train + test, validation, 0.0)
    wanted = [s for s, share in zip(SPLITS, fractions, strict=True) if share]
    keys = {items.key(i): items.key(i) for i in range(len(items))}
    nothing = Assignment("uuid", fractions, {})
    dealt = assign(keys, fractions=fractions, earlier=nothing)
    if set(dealt.values()) != set(wanted):
        if len(keys) < len(wanted):
            raise DatasetError(
                f"{name} has {len(keys)} samples and no splits; {', '.join(wanted)} need one each",
                hint="put them into folders named train, validation and test",
            )
        dealt = assign(keys, fractions=fractions)
    return {s: tuple(i for i in range(len(items)) if dealt[items.key(i)] == s) for s in wanted}
