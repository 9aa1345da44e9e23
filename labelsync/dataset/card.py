"""README.md of a dataset folder: what the Hub reads in its metadata, and what people read below."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from huggingface_hub import DatasetCardData

from labelsync.dataset.joined import Part
from labelsync.dataset.since import Since
from labelsync.dataset.split import Assignment
from labelsync.labels import BACKGROUND, UNLABELED, LabelMap
from labelsync.records.release import Ledger, Release
from labelsync.taxonomy import TaxonomyChanges

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class CardFacts:
    """What the card tells.

    Attributes:
        splits, sizes: split -> rows, and bytes of images and labels.
        pixels, images: by disk id 0..K, the pixels and the number of images that have some.
        columns: names of the image and the label column; empty for plain bitmaps.
        inputs: names -> digests of what the dataset was made from.
        releases: where there are several; `release` is then all of them as one.
        metadata: key -> values, one of which a sample must have to be taken.
        since: the difference to the earlier round, where there was one.
    """

    release: Release
    releases: Sequence[Part]
    labels: LabelMap
    changes: TaxonomyChanges
    ledger: Ledger
    assignment: Assignment
    splits: Mapping[str, int]
    sizes: Mapping[str, int]
    pixels: Sequence[int]
    images: Sequence[int]
    columns: tuple[str, ...]
    status: tuple[str, ...]
    metadata: Mapping[str, Sequence[str]]
    inputs: Mapping[str, str]
    since: Since | None = None


def render(facts: CardFacts) -> str:
    """The text of README.md. Names and descriptions come from a release, so nothing in them is trusted as markup."""
    labels, release = facts.labels, facts.release
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelsync.dataset"),
        autoescape=False,  # noqa: S701 - this is Markdown; `cell` and `code` escape what others wrote
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "code": code}
    return environment.get_template("README.md.j2").render(
        metadata=_metadata(facts),
        title=release.dataset or release.name,
        dataset=release.dataset,
        release=release.name,
        releases=facts.releases,
        description=release.description,
        created_at=release.created_at,
        labelset=release.labelset,
        labels=labels,
        bits=8 * labels.dtype().itemsize,
        unlabeled=_unlabeled(labels, facts.pixels),
        classes=_classes(facts),
        dropped=_drawn_as(labels, 0),
        labels_file=facts.inputs.get("labels", ""),
        changes=_changes(facts.changes),
        since=facts.since,
        splits=facts.splits,
        rows=sum(facts.splits.values()),
        first_split=next(iter(facts.splits)),
        last_split=list(facts.splits)[-1],
        made=_made(facts.assignment),
        outcomes={k: n for k, n in facts.ledger.totals.items() if n},
        samples=len(facts.ledger.rows),
        lost=facts.ledger.failed,
        undrawn=facts.ledger.undrawn,
        columns=facts.columns,
        status=facts.status,
        chosen=[f"{key}={' or '.join(values)}" for key, values in facts.metadata.items()],
        digest=facts.inputs["release"],
        previous=facts.inputs.get("previous", ""),
    )


def pixel_shares(labels: LabelMap, pixels: Sequence[int]) -> dict[str, float]:
    """Class name -> its share of the labelled pixels."""
    total = sum(pixels[1:])
    return {name: n / total if total else 0.0 for name, n in zip(labels.names, pixels[1:], strict=True)}


# -------------------------------------------------------------------- what others wrote


def cell(text: object) -> str:
    """Text for a Markdown table or line: one line, and no character that starts markup there."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return re.sub(r"([\\`*\[\]|#~])", r"\\\1", html.escape(line, quote=False))


def code(text: object) -> str:
    """Text between backticks, or inside quotes in a line of code: one line without either."""
    return " ".join("".join(c if c.isprintable() and c not in "`\"'\\|" else " " for c in str(text)).split())


# -------------------------------------------------------------------- parts


def _metadata(facts: CardFacts) -> str:
    rows = sum(facts.splits.values())
    card = DatasetCardData(
        pretty_name=facts.release.dataset or facts.release.name,
        task_categories=["image-segmentation"],
        task_ids=["semantic-segmentation"],
        size_categories=[next((name for limit, name in _SIZES if rows < limit), "n>1M")],
        tags=["labelsync", "segments-ai"],
    )
    if facts.columns:
        card["dataset_info"] = _info(facts)
        card["configs"] = [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in facts.splits],
            }
        ]
    return str(card.to_yaml()).strip()


def _info(facts: CardFacts) -> dict[str, Any]:
    """`dataset_info` as `datasets` writes it: with it, a repo that lacks a shard is noticed when it is loaded."""
    size = sum(facts.sizes.values())
    types = [*((name, "image") for name in facts.columns), ("name", "string"), ("uuid", "string")]
    return {
        "features": [{"name": name, "dtype": dtype} for name, dtype in types],
        "splits": [
            {"name": split, "num_bytes": facts.sizes[split], "num_examples": n} for split, n in facts.splits.items()
        ],
        "download_size": size,
        "dataset_size": size,
    }


def _classes(facts: CardFacts) -> list[dict[str, Any]]:
    shares = pixel_shares(facts.labels, facts.pixels)
    return [
        {
            "id": i,
            "name": c.name,
            "removed": c.removed,
            "drawn_from": ", ".join(_drawn_as(facts.labels, i)),
            "color": "#{:02x}{:02x}{:02x}".format(*c.color),
            "share": f"{shares[c.name]:.2%}",
            "images": facts.images[i],
        }
        for i, c in enumerate(facts.labels.classes, 1)
    ]


def _drawn_as(labels: LabelMap, class_id: int) -> list[str]:
    """Names of the categories drawn as a class, where more than the class's name tells; 0 = dropped ones."""
    names = {c.name for s in labels.sources for c in s.categories if c.class_id == class_id and not c.removed}
    return sorted(n for n in names if n.lower() != UNLABELED)


def _unlabeled(labels: LabelMap, pixels: Sequence[int]) -> str:
    share = pixels[0] / sum(pixels) if sum(pixels) else 0.0
    if labels.unlabeled == "class":
        zero = f"{share:.2%} are 0, of categories that were dropped" if pixels[0] else "0 does not occur"
        return f"Pixels that nobody labelled are the class `{BACKGROUND}`; {zero}."
    dropped = "unlabeled or of dropped categories" if _drawn_as(labels, 0) else "unlabeled"
    return f"{share:.2%} of the pixels are {dropped} (0) and are to be ignored in training and scoring."


def _changes(changes: TaxonomyChanges) -> list[str]:
    parts = [f"{old} is now {new}" for old, new in changes.renamed]
    parts += [f"{name} is new" for name in changes.added]
    parts += [f"{name} is gone" for name in changes.removed]
    parts += [f"{name} has the number {new} in place of {old}" for name, old, new in changes.renumbered]
    return parts + [f"category {name} is drawn as {new} in place of {old}" for name, old, new in changes.moved]


def _made(assignment: Assignment) -> str:
    if assignment.split_by:
        return f"The samples say it themselves, in `{code(assignment.split_by)}`."
    if assignment.fractions is None:
        return "They were given in a file."
    shares = ", ".join(f"{f:.0%}" if round(f * 100, 6).is_integer() else f"{f:.1%}" for f in assignment.fractions)
    what = "image, or of its whole sequence" if assignment.groups else "image"
    if assignment.group_by != "uuid":
        what = f"group (`{code(assignment.group_by)}`)"
    return f"By a stable hash of the {what}, aiming at {shares} for train, validation, test."
