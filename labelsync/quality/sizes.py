"""Images that are unlike the others in size, shape or kind of pixels, or that are stored turned."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from labelsync.quality.labelled import counted, percent
from labelsync.quality.look import ImageFacts, Seen
from labelsync.quality.subject import ALL
from labelsync.records.findings import Finding, Kind, Severity

_USUAL = 0.5  # a size that so many images have is the usual one
_RARE = 0.05  # and one that fewer have is a rare one
_ASPECT = 1.5  # times the usual aspect ratio, either way; 16:9 is 1.33 times 4:3


@dataclass(frozen=True)
class _Usual:
    """What most images are."""

    count: int
    sizes: Counter[tuple[int, int]]
    formats: Counter[str]
    aspect: float

    @property
    def size(self) -> tuple[int, int] | None:
        size, n = self.sizes.most_common(1)[0]
        return size if n >= _USUAL * self.count else None

    @property
    def format(self) -> str:
        return min(self.formats, key=lambda f: (-self.formats[f], f != "RGB", f))


def surprises(seen: Sequence[Seen]) -> list[Finding]:
    """Findings on the images that can be read.

    A size is rare where most images have one size and fewer than 5 % have this one. A shape is odd where the ratio of
    width to height is 1.5 times what is usual, or less than 1/1.5 of it.
    """
    images = [(s, s.image) for s in seen if s.image is not None]
    if not images:
        return []
    usual = _Usual(
        len(images),
        Counter(image.size_hw for _, image in images),
        Counter(image.format for _, image in images),
        median(_aspect(image.size_hw) for _, image in images),
    )
    findings = [f for s, image in images for f in _of_one(s, image, usual)]
    if usual.format != "RGB":
        message = f"{usual.formats[usual.format]} of {counted(usual.count, 'image')} are {usual.format}, not RGB"
        findings.append(Finding("odd-format", "info", message, score=float(usual.count)))
    return findings


def _of_one(seen: Seen, image: ImageFacts, usual: _Usual) -> list[Finding]:
    findings = []
    height, width = image.size_hw
    times = _aspect(image.size_hw) / usual.aspect
    n = usual.sizes[image.size_hw]
    if not 1 / _ASPECT <= times <= _ASPECT:
        shape = f"is {height}x{width} pixels high x wide, of another shape than most"
        told = f"{shape}: width to height {width / height:.2f}, usually {usual.aspect:.2f}"
        findings.append(_finding(seen, "odd-size", "warning", told, score=max(times, 1 / times)))
    elif usual.size is not None and n < _RARE * usual.count:
        often = f"{usual.sizes[usual.size]} of {usual.count} images are {usual.size[0]}x{usual.size[1]}"
        told = f"is {height}x{width} pixels high x wide, as {percent(n / usual.count)} of the images; {often}"
        findings.append(_finding(seen, "odd-size", "info", told, score=1 - n / usual.count))
    if image.orientation != 1:
        told = f"is stored turned (EXIF orientation {image.orientation}); a program that ignores EXIF sees it otherwise"
        findings.append(_finding(seen, "exif-orientation", "warning", told, score=1.0))
    if image.format != usual.format:
        often = f"{usual.formats[usual.format]} of {usual.count} images are {usual.format}"
        findings.append(_finding(seen, "odd-format", "info", f"is {image.format}, where {often}", score=1.0))
    return findings


def _aspect(size_hw: tuple[int, int]) -> float:
    return size_hw[1] / max(1, size_hw[0])


def _finding(seen: Seen, kind: Kind, severity: Severity, message: str, *, score: float) -> Finding:
    split = "" if seen.split == ALL else seen.split
    return Finding(kind, severity, message, split=split, name=seen.name, uuid=seen.uuid, score=score)
