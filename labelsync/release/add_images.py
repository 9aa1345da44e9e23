"""`add_images`: images become samples of a Segments.ai dataset, each once, however often it is run."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from labelsync.errors import AuthError, BitmapError, OptionError, SamplesFailed, ServiceError
from labelsync.pixels.video import count_frames
from labelsync.records.platform import ADD_OUTCOMES, AddImagesRecord
from labelsync.records.text import to_json
from labelsync.release.create import TASK_TYPES, check_name
from labelsync.release.gather import Picture, frames_of, gather, videos_left_out
from labelsync.release.known import SOURCE, KnownImages
from labelsync.release.platform import Platform
from labelsync.release.send import Sender
from labelsync.store.files import write_text

_IMAGE_TYPES = tuple(t for t in TASK_TYPES if not t.endswith("-sequence"))


def add_images(
    dataset: str,
    *,
    images: str | Path | Sequence[str | Path],
    every: int = 10,
    metadata: Sequence[str] = (),
    workers: int = 8,
    ledger: str | Path | None = None,
    dry_run: bool = False,
) -> AddImagesRecord:
    """Add images to a dataset on Segments.ai, to be labelled.

    Files are uploaded as they are, EXIF orientation and all; images at URLs stay where they are. A folder's images are
    called by their path below it. What is there already is not added again, neither under its name nor under another,
    so an interrupted run is finished by running it again. Reads SEGMENTS_API_KEY and SEGMENTS_API_URL.

    Args:
        dataset: "owner/name", as `create` made it.
        images: a folder, image files, URLs (https:// or gs://), a text file with a URL on each line, videos; one or
            several of them. Videos that lie in a folder are told of, and not added.
        every: of a video, one frame in so many is added, as JPEG. A frame's name does not depend on it.
        metadata: "key=value", for every sample that is added.
        workers: uploads at the same time.
        ledger: a JSON file for the record, a row for every image; written also when some fail or the platform gives up.
        dry_run: look at the images and at what is there, and only tell what would be added.

    Raises:
        OptionError: no image there, two images of one name, or a dataset of sequences.
        ReleaseNotFound: no such dataset.
        SamplesFailed: some images were not added: broken, too large, or another image has that name. All others were.
        AuthError, ServiceError: the platform refuses or does not answer. What was added till then stays.
    """
    check_name(dataset)
    for flag, value in (("--every", every), ("--workers", workers)):
        if value < 1:
            raise OptionError(f"{flag} is {value}, which is out of range", hint="give 1 or more")
    more = _parsed(metadata)
    given = [images] if isinstance(images, str | Path) else images
    found, videos = gather(given), videos_left_out(given)
    with Platform() as platform:
        _require_images(platform.require_dataset(dataset), dataset)
        known = KnownImages(platform.samples(dataset))
        sender = Sender(platform, dataset, known, more, dry_run)
        with _bar(found, every) as bar, _kept(ledger, platform.page_of(dataset), sender, videos):
            try:
                sender.add(_pictures(found, every, known), workers=workers, done=bar.update)
            except (AuthError, ServiceError) as e:
                raise type(e)(
                    f"{e.message} ({sender.added} images were added)", hint=f"{e.hint}; what is there is not sent again"
                ) from None
        record = _record(platform.page_of(dataset), sender, videos)
    _refuse_failed(record)
    return record


def _parsed(metadata: Sequence[str]) -> dict[str, str]:
    """ "key=value" .. as a dict."""
    found: dict[str, str] = {}
    for pair in metadata:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise OptionError(f"--metadata {pair!r} says nothing", hint="write it as key=value")
        if key in found or key == SOURCE:
            why = "is labelsync's own" if key == SOURCE else "is there twice"
            raise OptionError(f"--metadata {key} {why}", hint="leave it out")
        found[key] = value
    return found


def _require_images(dataset: Any, name: str) -> None:
    """Raises OptionError for a dataset whose samples are no single images."""
    if dataset.task_type not in _IMAGE_TYPES:
        raise OptionError(
            f"{name} is of task type {dataset.task_type}, whose samples are no single images",
            hint=f"add-images fills datasets of {', '.join(_IMAGE_TYPES)}",
        )


def _pictures(found: Sequence[Picture | Path], every: int, known: KnownImages) -> Iterator[Picture]:
    """Images as they are, videos frame by frame; a video that breaks off is one more picture, with its problem."""

    def is_there(picture: Picture) -> bool:
        return known.settled(picture, picture.identity()) is not None

    for item in found:
        if isinstance(item, Picture):
            yield item
            continue
        try:
            yield from frames_of(item, every=every, skip=is_there)
        except BitmapError as e:
            yield Picture(item.name, path=item, problem=e.message)


@contextmanager
def _bar(found: Sequence[Picture | Path], every: int) -> Iterator[Any]:
    frames = [count_frames(v) for v in found if isinstance(v, Path)]
    total = sum(isinstance(p, Picture) for p in found) + sum(-(-n // every) for n in frames)
    make = partial(tqdm, desc="images", unit="image", disable=None, file=sys.stderr)
    with make(total=None if 0 in frames else total) as bar:
        yield bar


@contextmanager
def _kept(ledger: str | Path | None, page: str, sender: Sender, videos: tuple[str, ...]) -> Iterator[None]:
    """Write the ledger, whatever ended the block."""
    try:
        yield
    finally:
        if ledger is not None:
            write_text(Path(ledger), to_json(_record(page, sender, videos)) + "\n")


def _record(page: str, sender: Sender, videos: tuple[str, ...]) -> AddImagesRecord:
    count = Counter(row.outcome for row in sender.rows)
    outcomes: dict[str, int] = {o: count[o] for o in ADD_OUTCOMES}
    return AddImagesRecord(sender.dataset, page, outcomes, sender.uploaded, tuple(sender.rows), sender.dry_run, videos)


def _refuse_failed(record: AddImagesRecord) -> None:
    failed = [row for row in record.rows if row.outcome == "failed"]
    if not failed:
        return
    more = f"; {len(failed) - 1} more of {len(record.rows)} images failed" if len(failed) > 1 else ""
    others = f"{record.outcomes['added']} {'would be' if record.dry_run else 'were'} added"
    raise SamplesFailed(
        f"image {failed[0].name!r} is not added: {failed[0].reason}{more}",
        hint=f"{others}, {record.outcomes['there']} were there; mend it and run it again",
        details=[f"{row.name!r}: {row.reason}" for row in failed] if more else (),
    )
