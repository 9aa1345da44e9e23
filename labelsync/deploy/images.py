"""Which image and video files a user means, and what the files made from them are called."""

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from labelsync.errors import LabelsyncError, OptionError
from labelsync.pixels import video
from labelsync.store.files import sha256
from labelsync.store.manifest import read_manifest

_LONGEST = 200  # bytes of one part of a path; file systems take 255, of which a temporary name needs some

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def is_video(path: Path | PurePosixPath) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in video.SUFFIXES


def find_images(given: Sequence[str], *, outside: Path | None = None) -> list[Path]:
    """Files, folders (every image file below them) and globs ("**" too) -> images and videos, sorted, each once.

    Of a folder that `labelsync pull` left, the images are meant, not the bitmaps. What starts with "." is left out: it
    may be what an interrupted run has made. A video counts where it is named, or
    matched by a glob: in a folder it may be what the images there were cut from.

    Args:
        outside: a folder whose files are left out: what an earlier run wrote is not to be predicted again.

    Raises:
        OptionError: one of `given` is not there, or holds or matches no image file.
    """
    named: list[Path] = []
    found: dict[str, Path] = {}
    for item in given:
        files = [file for file in _expand(item) if outside is None or not _is_below(file, outside)]
        if not files:
            raise OptionError(f"no image at {item!r}", hint=_advice(Path(item).expanduser()))
        named += files
    for file in sorted(named):
        found.setdefault(os.path.realpath(file), file)  # one file named in two ways is one image
    return sorted(found.values())


def output_names(files: Sequence[Path]) -> list[str]:
    """A name without suffix for what is made from each file, "/" between folders; no two are the same.

    The folders below the files' common folder stay, so a/x.jpg and b/x.jpg give a/x and b/x. Of x.jpg and x.png in one
    folder both keep their suffix: x.jpg, x.png; so does every video, whose frames are named below it. Letters' case and
    the spelling of accents make no difference between two names, since they make none on some file systems.
    """
    if not files:
        return []
    full = [Path(os.path.abspath(file)) for file in files]
    common = os.path.commonpath([file.parent for file in full])
    return unique_names([PurePosixPath(file.relative_to(common).as_posix()) for file in full])


def unique_names(paths: Iterable[PurePosixPath]) -> list[str]:
    """As `output_names`, for paths that are relative already."""
    paths = list(paths)
    stems = Counter(_folded(_short(path)) for path in paths)
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        short = _short(path)
        name = plain = short if stems[_folded(short)] == 1 else path.as_posix()
        number = 2
        while _folded(name) in taken:
            name = f"{plain}-{number}"
            number += 1
        taken.add(_folded(name))
        names.append(name)
    return names


def safe_path(name: str) -> PurePosixPath:
    """A sample's name, which may be anything, as a relative path that stays where it is put and that files may have."""
    parts = ("".join(c if c.isprintable() and c not in '\\:*?"<>|' else "-" for c in p) for p in name.split("/"))
    return PurePosixPath(*([_not_too_long(p) for p in parts if p.strip(". ")] or ["image"]))


def _not_too_long(part: str) -> str:
    """A name that leaves room for a suffix: of a longer one its digest, its first characters and its own suffix."""
    if len(part.encode("utf-8", "replace")) <= _LONGEST:
        return part
    suffix = PurePosixPath(part).suffix
    suffix = suffix if suffix.lower() in SUFFIXES else ""
    start = part.encode("utf-8", "replace")[: _LONGEST - 20].decode(errors="ignore")
    return f"{start}-{sha256(part.encode('utf-8', 'replace'))[:12]}{suffix}"


def _folded(name: str) -> str:
    """What two names have in common that some file system takes for one: case, and how an accent is spelled."""
    return unicodedata.normalize("NFC", name).casefold()


def _short(path: PurePosixPath) -> str:
    known = path.suffix.lower() in SUFFIXES  # of "frame.0001" the number is not lost
    return path.with_suffix("").as_posix() if known else path.as_posix()


def _is_below(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _expand(item: str) -> list[Path]:
    if not item:  # as a path it would be the current folder
        return []
    path = Path(item).expanduser()
    if path.is_dir():
        folder = path / "images" if stage_of(path) == "pull" else path
        found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        return [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if path.exists():
        return [path]  # whatever its suffix: the user named it
    matches = (Path(m) for m in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [p for p in matches if (p.suffix.lower() in SUFFIXES or is_video(p)) and p.is_file()]


def stage_of(folder: Path) -> str:
    """The verb of labelsync that left a folder, "" if none did."""
    try:
        return read_manifest(folder).stage
    except (LabelsyncError, OSError):
        return ""


def _advice(path: Path) -> str:
    """What to give instead of `path`."""
    if path.is_dir():
        if stage_of(path) == "convert":
            return "it is a dataset: pass --split train, validation or test"
        videos = [p for p in path.rglob("*") if is_video(p)]
        if videos:
            return f"name its videos ({len(videos)}), as {path / f'*{videos[0].suffix}'}"
    return "give image files, videos, folders or quoted globs, owner/name on Segments.ai, or a dataset and --split"
