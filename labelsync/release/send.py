"""Images to Segments.ai, some at a time: looked at, uploaded in parallel, then added by one call."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from labelsync.errors import BitmapError
from labelsync.pixels.image import require_whole
from labelsync.records.platform import ImageRow
from labelsync.release.client import Refused
from labelsync.release.gather import Picture
from labelsync.release.known import SOURCE, KnownImages
from labelsync.release.platform import KnownSample, Platform, SampleToAdd

MAX_BYTES = 100_000_000  # of one file in the storage of Segments.ai

_AT_ONCE = 32  # what a kill can make to be sent again


@dataclass
class Sender:
    """Adds images to one dataset; `rows` says what has become of each so far, `uploaded` how many bytes were sent.

    Attributes:
        metadata: for every sample that is added.
        dry_run: look at the images, and send nothing.
    """

    platform: Platform
    dataset: str
    known: KnownImages
    metadata: dict[str, str]
    dry_run: bool
    rows: list[ImageRow] = field(default_factory=list)
    uploaded: int = 0

    def add(self, pictures: Iterable[Picture], *, workers: int, done: Callable[[int], object]) -> None:
        """Add those that are new; `done` is told how many more are settled.

        Raises:
            AuthError, ServiceError: the platform takes no more; what is in `rows` is done.
        """
        left = iter(pictures)
        with ThreadPoolExecutor(workers, thread_name_prefix="add") as pool:
            try:
                while some := list(itertools.islice(left, _AT_ONCE)):
                    self.rows += self._some(some, pool)
                    done(len(some))
            except BaseException:  # a dead server, Ctrl-C: what is under way may end, the rest never starts
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @property
    def added(self) -> int:
        """How many images were added."""
        return sum(row.outcome == "added" for row in self.rows)

    def _some(self, pictures: Sequence[Picture], pool: ThreadPoolExecutor) -> list[ImageRow]:
        """Their rows, in their order."""
        rows: list[ImageRow | None] = []
        for picture, identity in zip(pictures, pool.map(_identity, pictures), strict=True):
            if isinstance(identity, _Problem):
                rows.append(_failed(picture, identity.reason))
                continue
            rows.append(row := self.known.settled(picture, identity))
            if row is None:
                self.known.announce(picture, identity)
        new = [p for p, row in zip(pictures, rows, strict=True) if row is None]
        if self.dry_run:
            looked = pool.map(_checked, new)
            made = [
                _failed(p, d.reason) if isinstance(d, _Problem) else ImageRow(p.name, "added")
                for p, d in zip(new, looked, strict=True)
            ]
        else:
            made = self._new(new, list(pool.map(self._sent, new)))
        rest = iter(made)
        return [row or next(rest) for row in rows]

    def _sent(self, picture: Picture) -> "_Sent | _Problem":
        """Where the image is now."""
        if picture.url:
            return _Sent(picture.url)
        data = _checked(picture)
        if isinstance(data, _Problem):
            return data
        try:
            return _Sent(self.platform.upload(data, picture.name.rpartition("/")[2]), len(data))
        except Refused as e:
            return _Problem(e.message)

    def _new(self, pictures: Sequence[Picture], sent: "Sequence[_Sent | _Problem]") -> list[ImageRow]:
        wanted = [self._sample(p, s.url) for p, s in zip(pictures, sent, strict=True) if isinstance(s, _Sent)]
        there = self._added(wanted)
        rows = []
        for picture, s in zip(pictures, sent, strict=True):
            end = s if isinstance(s, _Problem) else there[picture.name]
            if isinstance(end, _Problem):
                rows.append(_failed(picture, end.reason))
                continue
            self.known.add(end)
            rows.append(self._row(picture, s, end))
        return rows

    def _row(self, picture: Picture, sent: "_Sent | _Problem", there: KnownSample) -> ImageRow:
        if isinstance(sent, _Sent) and there.image_url == sent.url:
            self.uploaded += sent.bytes
            return ImageRow(picture.name, "added", there.uuid)
        # somebody else has added one of that name since the list was read
        return self.known.settled(picture, picture.identity()) or _failed(picture, "it was not added")

    def _sample(self, picture: Picture, url: str) -> SampleToAdd:
        source = {} if picture.url else {SOURCE: picture.identity()}
        return SampleToAdd(picture.name, url, picture.metadata | self.metadata | source)

    def _added(self, wanted: "list[SampleToAdd]") -> "dict[str, KnownSample | _Problem]":
        """Name -> the sample that is there now. One that the platform refuses does not keep the others out."""
        if not wanted:
            return {}
        try:
            return {s.name: s for s in self.platform.add_samples(self.dataset, wanted)}
        except Refused:
            if len(wanted) == 1:
                raise
        found: dict[str, KnownSample | _Problem] = {}
        for sample in wanted:
            try:
                found |= self._added([sample])
            except Refused as e:
                found[sample.name], refusal = _Problem(e.message), e
        if all(isinstance(f, _Problem) for f in found.values()):  # it is not about one image
            raise refusal
        return found


@dataclass(frozen=True)
class _Problem:
    """Why one image cannot be added."""

    reason: str


@dataclass(frozen=True)
class _Sent:
    """Where an image is now, and how many bytes were sent for that."""

    url: str
    bytes: int = 0


def _identity(picture: Picture) -> str | _Problem:
    if picture.problem:
        return _Problem(picture.problem)
    try:
        return picture.identity()
    except OSError as e:
        return _Problem(e.strerror or "it cannot be read")


def _checked(picture: Picture) -> bytes | _Problem:
    """The bytes to send, whole and not too many; none for an image that stays where it is."""
    if picture.url:
        return b""
    try:
        data = picture.read()
        require_whole(data)
    except OSError as e:
        return _Problem(e.strerror or "it cannot be read")
    except BitmapError as e:
        return _Problem(e.message)
    if len(data) > MAX_BYTES:
        return _Problem(f"it has {len(data) / 1e6:.0f} MB, and Segments.ai takes {MAX_BYTES / 1e6:.0f}")
    return data


def _failed(picture: Picture, reason: str) -> ImageRow:
    return ImageRow(picture.name, "failed", reason=reason)
