"""What `create`, `add_images` and `create_release` return: what they made on Segments.ai."""

from dataclasses import dataclass
from typing import Literal

from labelsync.taxonomy import Category

AddOutcome = Literal["added", "there", "duplicate", "failed"]

ADD_OUTCOMES: tuple[AddOutcome, ...] = ("added", "there", "duplicate", "failed")


@dataclass(frozen=True)
class CreateRecord:
    """`create`: a dataset on Segments.ai, or what it would be (`dry_run`).

    `page` = its web page, "" where only the API of a deployment is known. `unchanged` = it was there already, with
    these categories; `samples` = how many it has.
    """

    dataset: str
    page: str
    task_type: str
    categories: tuple[Category, ...]
    public: bool
    samples: int
    unchanged: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class ImageRow:
    """How one image ended: "added"; "there" under its name; "duplicate" = there under another; "failed".

    `uuid` = of the sample that holds it, "" if none does or in a dry run; `reason` = why it was not added.
    """

    name: str
    outcome: AddOutcome
    uuid: str = ""
    reason: str = ""


@dataclass(frozen=True)
class AddImagesRecord:
    """`add_images`: one row for every image, in the order of their names; frames in that of the video.

    `outcomes` = how many ended how (in a dry run "added" would be), `uploaded` = bytes that were sent; `videos` = those
    that lie in the folders, whose frames are added only if they are named.
    """

    dataset: str
    page: str
    outcomes: dict[str, int]
    uploaded: int
    rows: tuple[ImageRow, ...]
    dry_run: bool = False
    videos: tuple[str, ...] = ()


@dataclass(frozen=True)
class CreateReleaseRecord:
    """`create_release`: a finished release. `unchanged` = there was one of that name, made at `created_at`."""

    dataset: str
    release: str
    description: str
    samples: int
    created_at: str
    unchanged: bool = False
