"""Which images `add_images` is given, and what each of them is called.

A file of a folder has its path below that folder as name, "/" between folders and suffix included, so that equal stems
stay apart; a file that is named itself has its own name; an image at a URL the path of the URL; a frame of a video
"walk.mp4/frame_000120.jpg", its number counted from 0, whatever --every is.
"""

import io
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.errors import OptionError
from labelsync.pixels import video
from labelsync.release.urls import asset_key, shown
from labelsync.store.files import sha256_file

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
LISTS = frozenset({".txt", ".lst"})
_SCHEMES = ("http", "https", "gs")  # what the platform's own documents give it

_QUALITY = 95  # of a frame's JPEG; the video has lost more than that


@dataclass(frozen=True)
class Picture:
    """One image that is to be a sample.

    Attributes:
        name: of the sample.
        url: where it is on the network already; "" for one that is to be uploaded.
        path: the file, or the video.
        data: a video's frame as a file.
        digest: of the video and the frame's number.
        metadata: what the source tells about it.
        problem: why it cannot be added.
    """

    name: str
    url: str = ""
    path: Path = Path()
    data: bytes = b""
    digest: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def identity(self) -> str:
        """What two images have in common if they are one: the URL unsigned, or the digest of the file (and the number
        of the frame)."""
        if self.url:
            return asset_key(self.url)
        return self.digest or f"sha256:{sha256_file(self.path)}"

    def read(self) -> bytes:
        """The bytes to upload, as they are in the file."""
        return self.data or self.path.read_bytes()


def gather(given: Sequence[str | Path]) -> list[Picture | Path]:
    """Images in the order of their names, then the videos, whose frames come from `frames_of`.

    Args:
        given: folders (every image below them; what starts with "." is left out), image files, URLs, text files with
            a URL on each line, videos.

    Raises:
        OptionError: one of them is not there or holds no image, or two images would have one name.
    """
    pictures: list[Picture] = []
    videos: list[Path] = []
    for item in given:
        if isinstance(item, str) and "://" in item:
            pictures.append(_of_url(item.strip(), where=""))
            continue
        path = Path(item).expanduser()
        if not str(item):  # as a path it would be the current folder
            raise OptionError("one of the images is called ''", hint="give a folder, image files, URLs or a video")
        if path.is_dir():
            pictures += _of_folder(path)
        elif not path.is_file():
            raise OptionError(f"there is no {item}", hint="give a folder, image files, URLs, a list of them or a video")
        elif path.suffix.lower() in LISTS:
            pictures += _of_list(path)
        elif path.suffix.lower() in video.SUFFIXES:
            videos.append(path)
        else:
            pictures.append(_of_file(path, path.name))
    pictures = _each_once(pictures)
    _refuse_one_name([*((p.name, _where(p)) for p in pictures), *((v.name, str(v)) for v in dict.fromkeys(videos))])
    return [*sorted(pictures, key=lambda p: p.name), *sorted(dict.fromkeys(videos))]


def videos_left_out(given: Sequence[str | Path]) -> tuple[str, ...]:
    """The videos below the folders that are given, without those that are given themselves."""
    paths = [Path(item).expanduser() for item in given if not (isinstance(item, str) and "://" in item)]
    named = {os.path.realpath(path) for path in paths}
    below = {file for path in paths if path.is_dir() for file in _files_below(path)}
    return tuple(
        str(f) for f in sorted(below) if f.suffix.lower() in video.SUFFIXES and os.path.realpath(f) not in named
    )


def frames_of(path: Path, *, every: int, skip: Callable[[Picture], bool]) -> Iterator[Picture]:
    """Every `every`-th frame of a video, as a picture that can be read at once.

    Args:
        skip: whether a picture need not be read; it then has no `data`.

    Raises:
        OptionError, BitmapError: as `read_frames`.
    """
    digest = sha256_file(path)
    for frame in video.read_frames(path, wanted=lambda i: i % every == 0):
        about = {"video": path.name, "frame": frame.index, "time": round(frame.seconds, 3)}
        name = f"{_normal(path.name)}/frame_{frame.index:06d}.jpg"
        picture = Picture(name, path=path, metadata=about, digest=f"sha256:{digest}#{frame.index}")
        yield picture if skip(picture) else replace(picture, data=_jpeg(frame.pixels))


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG with whole colours, the same bytes for the same pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()


# -------------------------------------------------------------------- what is given


def _of_folder(folder: Path) -> list[Picture]:
    files = list(_files_below(folder))
    found = [_of_file(p, p.relative_to(folder).as_posix()) for p in files if p.suffix.lower() in IMAGES]
    if not found:
        videos = sorted(p for p in files if p.suffix.lower() in video.SUFFIXES)
        hint = f"name the video itself: {videos[0]}" if videos else f"suffixes are {', '.join(sorted(IMAGES))}"
        raise OptionError(f"no image in {folder}", hint=hint)
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden. Raises OSError for a folder that cannot be read: `rglob` would leave it out."""

    def refuse(error: OSError) -> None:
        raise error

    for at, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith(".")]
        yield from (Path(at, name) for name in names if not name.startswith("."))


def _of_file(path: Path, name: str) -> Picture:
    problem = "" if _is_utf8(name) else "its name is not UTF-8"
    return Picture(_normal(name), path=path, problem=problem)


def _of_list(path: Path) -> list[Picture]:
    """The URLs of a text file; empty lines and those that start with "#" say nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise OptionError(f"{path} is no text", hint="write a URL on each line") from None
    urls = [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not urls:
        raise OptionError(f"{path} lists no URL", hint="write a URL on each line")
    return [_of_url(url, where=f"{path}, line {i}: ") for i, url in urls]


def _of_url(url: str, *, where: str) -> Picture:
    try:
        parts = urlsplit(url)
        name = unquote(parts.path).strip("/")
        usable = bool(parts.hostname) and bool(name) and parts.port != 0 and " " not in url
    except ValueError:
        usable = False
    if not usable or not _is_utf8(name) or not name.isprintable():
        raise OptionError(f"{where}{shown(url)} is no URL of an image", hint="write it as https://host/path/image.jpg")
    if parts.scheme not in _SCHEMES:
        hint = "Segments.ai takes https:// and gs://; an object in S3 is https://BUCKET.s3.REGION.amazonaws.com/KEY"
        raise OptionError(f"{where}{shown(url)}: {parts.scheme} URLs are not taken", hint=hint)
    if parts.username or parts.password:
        raise OptionError(f"{where}{shown(url)} holds a password, which every annotator would see", hint="leave it out")
    return Picture(_normal(name), url=url)


def _normal(name: str) -> str:
    """One spelling for an accented letter: macOS has another than the rest."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# -------------------------------------------------------------------- one name, one image


def _each_once(pictures: Sequence[Picture]) -> list[Picture]:
    """Without those that were given twice under one name: a file beside its folder, a URL that is listed again."""
    return list({(p.name, _where(p)): p for p in pictures}.values())


def _where(picture: Picture) -> str:
    return picture.url or os.path.realpath(picture.path)


def _refuse_one_name(named: Sequence[tuple[str, str]]) -> None:
    first: dict[str, str] = {}
    for name, where in named:
        if name in first:
            both = " and ".join(shown(w) if "://" in w else w for w in (first[name], where))
            raise OptionError(
                f"two images would be called {name!r}: {both}",
                hint="give the folder that holds both, so that their folders are in their names",
            )
        first[name] = where
