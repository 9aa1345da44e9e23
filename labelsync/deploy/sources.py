"""What `predict` is given -> images to segment, one after the other, with a name for what is made of each.

An argument is what it is on disk: a file, a folder, a glob, a video. With --split it is a dataset, in a folder or on
the Hub. What is neither on disk nor given with --split and reads "owner/name" is a dataset on Segments.ai.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.dataset.load import load
from labelsync.dataset.published import split_at
from labelsync.deploy.images import SUFFIXES, find_images, is_video, output_names, safe_path, unique_names
from labelsync.errors import BitmapError, OptionError
from labelsync.pixels import video
from labelsync.release.current import current_images, current_samples
from labelsync.release.urls import asset_key
from labelsync.store.files import digest_of, sha256_if_readable

_ON_SEGMENTS = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, eq=False)
class Item:
    """One image to be segmented.

    Attributes:
        image: what it is called in predictions.jsonl and in errors.
        name: of what is made of it, without suffix, "/" between folders.
        read: its file's bytes, or (H, W, 3) uint8 RGB. Raises BitmapError.
        digest: of an image that has no bytes of its own: a frame.
        frame: its number in a video, from 0.
        seconds: its time in that video.
    """

    image: str
    name: str
    read: Callable[[], bytes | npt.NDArray[np.uint8]]
    digest: str = ""
    frame: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Images that come together.

    Attributes:
        shown: what it is called.
        digest: of its content.
        count: how many images there are; 0 = not known.
        items: goes through them; may be called again.
        video: the file whose frames they are.
        name: of what is made of a video as a whole.
    """

    shown: str
    digest: str
    count: int
    items: Callable[[], Iterator[Item]]
    video: Path | None = None
    name: str = ""


def find_sources(given: Sequence[str], *, split: str | None, reading: Mapping[str, Any], outside: Path) -> list[Source]:
    """The sources that arguments of `predict` name.

    Args:
        split: every argument is a dataset, of which this split is meant.
        reading: how to read a foreign dataset, as `labelsync.load` takes it.
        outside: a folder whose files are left out.

    Raises:
        OptionError: nothing there, or `reading` without `split`.
        as `labelsync.load`, for a dataset; as `labelsync.release.current`, for one on Segments.ai.
    """
    if not given:
        raise OptionError("no images", hint="give image files, folders or globs")
    if split is not None:
        folders = _folders(given, alone=len(given) == 1)
        return [_of_split(d, split, reading, folder) for d, folder in zip(given, folders, strict=True)]
    if stated := [name for name, value in reading.items() if value]:
        flag = f"--{stated[0].replace('_', '-')}"
        raise OptionError(f"{flag} is about a dataset", hint="say which split of it with --split")
    remote = [item for item in given if _is_on_segments(item)]
    local = [item for item in given if item not in remote]
    folders = _folders(remote, alone=not local and len(remote) == 1)
    found = [_of_segments(name, folder) for name, folder in zip(remote, folders, strict=True)]
    return [*_of_files(find_images(local, outside=outside)), *found]


def _folders(datasets: Sequence[str], *, alone: bool) -> list[str]:
    """Where what is made of each dataset lies; "" where nothing else could have the names of its samples."""
    return [""] * len(datasets) if alone else [f"{name}/" for name in unique_names(safe_path(d) for d in datasets)]


# -------------------------------------------------------------------- files and videos


def _of_files(files: Sequence[Path]) -> list[Source]:
    """All images as one source, and every video as one."""
    pairs = list(zip(files, output_names(files), strict=True))
    images = [(file, name) for file, name in pairs if not is_video(file)]
    found = [_of_video(file, name) for file, name in pairs if is_video(file)]
    if images:
        digest = digest_of([[str(file), sha256_if_readable(file)] for file, _ in images])
        items = [Item(str(file), name, partial(_read_file, file)) for file, name in images]
        found.insert(0, Source("images", digest, len(items), lambda: iter(items)))
    return found


def _of_video(file: Path, name: str) -> Source:
    digest = sha256_if_readable(file)

    def items() -> Iterator[Item]:
        shown, count = str(file), 0
        try:
            for frame in video.read_frames(file):
                count = frame.index + 1
                yield Item(
                    image=shown,
                    name=frame_name(name, frame.index),
                    read=partial(_pixels, frame),
                    digest=f"{digest}#{frame.index}",
                    frame=frame.index,
                    seconds=round(frame.seconds, 6),
                )
            problem = "" if count else "it is a video without a frame"
        except BitmapError as e:  # what came before stays good
            problem = e.message
        if problem:
            yield Item(shown, name, partial(_refuse, problem), frame=count)

    return Source(str(file), digest_of([str(file), digest]), video.count_frames(file), items, file, name)


def frame_name(name: str, index: int) -> str:
    """What is made of a frame is called so; `add-images` calls it so too."""
    return f"{name}/frame_{index:06d}"


def _pixels(frame: video.Frame) -> npt.NDArray[np.uint8]:
    return frame.pixels


def _refuse(problem: str) -> bytes:
    raise BitmapError(problem)


def _read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise BitmapError(e.strerror or str(e)) from None


# -------------------------------------------------------------------- datasets


def _of_split(dataset: str, split: str, reading: Mapping[str, Any], folder: str) -> Source:
    place, part = split_at(dataset, split)
    data = load(place, **reading)
    rows = data.splits[part]
    names = [folder + name for name in unique_names(safe_path(row.name) for row in rows)]

    def items() -> Iterator[Item]:
        for index, name in enumerate(names):
            row = rows[index]
            yield Item(row.name, name, partial(bytes, row.image))

    return Source(dataset, digest_of([data.digest, part]), len(names), items)


def _is_on_segments(item: str) -> bool:
    """Whether an argument can only be a dataset on Segments.ai: "owner/name", and not a path that was mistyped."""
    path = Path(item)
    if path.exists() or not _ON_SEGMENTS.fullmatch(item) or path.parent.is_dir():
        return False
    return not (is_video(path) or path.suffix.lower() in SUFFIXES or ".." in path.parts)


# -------------------------------------------------------------------- Segments.ai


def _of_segments(dataset: str, folder: str) -> Source:
    samples = [s for s in current_samples(dataset) if s.image_url or s.problem]
    if not samples:
        raise OptionError(f"{dataset} on Segments.ai has no images", hint="add some, or check the name")
    names = [folder + name for name in unique_names(safe_path(s.name) for s in samples)]
    digest = digest_of([dataset, [[s.uuid, asset_key(s.image_url or "")] for s in samples]])

    def items() -> Iterator[Item]:
        with closing(current_images(dataset, samples)) as images:
            for image, name in zip(images, names, strict=True):
                yield Item(image.sample.name, name, image.read)

    return Source(dataset, digest, len(samples), items)
