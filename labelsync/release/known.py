"""The images that a Segments.ai dataset has: under which name, and whether an image is one of them.

An upload leaves in the sample's metadata what it was made from (`labelsync_source`: the digest of the file, of a frame
the digest of the video and the frame's number). So nothing is fetched to tell which image is there under a name, and
that one is there under another. An image at a URL is told by its URL.
"""

from collections.abc import Iterable

from labelsync.records.platform import ImageRow
from labelsync.release.gather import Picture
from labelsync.release.platform import KnownSample
from labelsync.release.urls import asset_key

SOURCE = "labelsync_source"  # key in the metadata of a sample


class KnownImages:
    """The samples of one dataset, by name and by image."""

    def __init__(self, samples: Iterable[KnownSample]) -> None:
        self._samples: dict[str, KnownSample] = {}
        self._names: dict[str, str] = {}  # identity -> name of the sample that holds the image
        for sample in samples:
            self.add(sample)

    def add(self, sample: KnownSample) -> None:
        """A sample that is there."""
        self._samples[sample.name] = sample
        if identity := _identity_of(sample):
            self._names.setdefault(identity, sample.name)

    def announce(self, picture: Picture, identity: str) -> None:
        """An image that is about to be added: the next one like it is its duplicate."""
        self._names.setdefault(identity, picture.name)

    def settled(self, picture: Picture, identity: str) -> ImageRow | None:
        """The row of an image that is not to be added; None for one that is new.

        A file and a sample that labelsync did not upload cannot be compared, nor can a URL and a sample that it did:
        the name then counts.
        """
        known = self._samples.get(picture.name)
        if known is not None:
            comparable = bool(picture.url) == (SOURCE not in known.metadata)
            if not comparable or _identity_of(known) in ("", identity):
                told = "" if comparable else "; whether it holds this image is not known"
                return ImageRow(picture.name, "there", known.uuid, f"a sample of this name is there{told}")
            reason = "a sample of this name holds another image: rename it, or give the folder above it"
            return ImageRow(picture.name, "failed", known.uuid, reason)
        twin = self._names.get(identity)
        if twin is None:
            return None
        there = self._samples.get(twin)
        uuid = there.uuid if there else ""
        return ImageRow(picture.name, "duplicate", uuid, f"it is the same image as {twin!r}")


def _identity_of(sample: KnownSample) -> str:
    """What `Picture.identity` says of the image of a sample; "" if nobody knows."""
    source = sample.metadata.get(SOURCE)
    if isinstance(source, str):
        return source
    try:
        return asset_key(sample.image_url) if sample.image_url else ""
    except ValueError:
        return ""
