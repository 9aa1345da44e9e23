"""What to do about each kind of finding, one line each, in the order in which a check tells them."""

from typing import get_args

from labelsync.records.findings import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)

_BY_KIND: dict[Kind, str] = {
    "lost-sample": "mend them on Segments.ai and pull again",
    "broken-image": "pull the release again; if that does not help, upload the image anew",
    "broken-bitmap": "save the label again on Segments.ai, then pull and convert",
    "unknown-id": "save the label again on Segments.ai: its bitmap and its annotations are of two states",
    "bad-annotation": "give the object a category of the taxonomy on Segments.ai",
    "undrawn-annotation": "delete the object, or draw it again: something was drawn over all of it",
    "shapes-only": "convert the release and check the dataset, which has the shapes drawn",
    "empty-label": "label the image, or set its status to SKIPPED",
    "tiny-label": "look whether the label was finished; another bound is --min-labelled",
    "tiny-instance": "delete specks that a slip of the brush left; another bound is --min-instance",
    "duplicate": "keep one of each and delete the others on Segments.ai, or keep them in one split (--group-by)",
    "unused-class": "label some, or take the category out of the taxonomy",
    "class-in-split": "label more of it, or convert with another --group-by or with --splits",
    "exif-orientation": "labelsync, transformers and datasets turn it; other programs must too",
    "odd-size": "look whether the image belongs here",
    "odd-format": "labelsync makes it 8-bit RGB; look whether the image belongs here",
    "contradicted-label": "look at the pictures that --out leaves; --open-issues tells the labelers",
}


def advice(kind: Kind, *, group_by: str) -> str:
    """The next move; `group_by` is the rule that the dataset's splits were made by, "" if there are none yet."""
    if kind != "near-duplicate":
        return _BY_KIND[kind]
    move = "keep frames of one drive in one split: convert with --group-by metadata.KEY or name:REGEX"
    if not group_by:
        return move
    known = "every image is its own group now" if group_by == "uuid" else f"it is {group_by} now"
    return f"scores on these flatter; {move} ({known})"
