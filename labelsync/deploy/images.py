"""Which image files a user means, and what the files made from them are called."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from labelsync.errors import OptionError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def find_images(given: Sequence[str], *, outside: Path | None = None) -> list[Path]:
    """Files, folders (every image file below them) and globs ("**" too) -> image files, sorted, each once.

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
            raise OptionError(f"no image at {item!r}", hint="give image files, folders or quoted globs")
        named += files
    for file in sorted(named):
        found.setdefault(os.path.realpath(file), file)  # one file named in two ways is one image
    return sorted(found.values())


def output_names(files: Sequence[Path]) -> list[str]:
    """A name without suffix for what is made from each file, "/" between folders; no two are the same.

    The folders below the files' common folder stay, so a/x.jpg and b/x.jpg give a/x and b/x. Of x.jpg and x.png in one
    folder both keep their suffix: x.jpg, x.png. Letters' case makes no difference between two names, since it makes
    none on some file systems.
    """
    if not files:
        return []
    full = [Path(os.path.abspath(file)) for file in files]
    common = os.path.commonpath([file.parent for file in full])
    relative = [file.relative_to(common) for file in full]
    stems = Counter(path.with_suffix("").as_posix().casefold() for path in relative)
    names: list[str] = []
    taken: set[str] = set()
    for path in relative:
        short = path.with_suffix("").as_posix()
        name = plain = short if stems[short.casefold()] == 1 else path.as_posix()
        number = 2
        while name.casefold() in taken:
            name = f"{plain}-{number}"
            number += 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _is_below(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _expand(item: str) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        return [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    if path.exists():
        return [path]  # whatever its suffix: the user named it
    matches = (Path(m) for m in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [p for p in matches if p.suffix.lower() in SUFFIXES and p.is_file()]
