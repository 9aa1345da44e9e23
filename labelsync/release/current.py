"""The images of a dataset as it is on Segments.ai now, released or not, through the asset cache."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import AssetError, BitmapError, ReleaseNotFound
from labelsync.records.release import Sample
from labelsync.release.assets import Asset, stream_assets
from labelsync.release.cache import AssetCache
from labelsync.release.entries import BITMAP, SUPPORTED, samples_of
from labelsync.release.platform import PER_PAGE, Platform
from labelsync.release.sources import ReleaseFile, signing

DOWNLOADS = 16  # downloads at the same time, as in `pull`
AHEAD = 64  # images that are there before they are looked at: what a model does in some seconds


def current_samples(dataset: str) -> tuple[Sample, ...]:
    """Every image of "owner/name", frames of sequences too, by name; labels are left out.

    Raises:
        OptionError, AuthError, ServiceError: as `Platform`.
        ReleaseNotFound: no such dataset, or the key may not see it.
    """
    with _Entries() as platform:
        found = platform.find_dataset(dataset)
        if found is None:
            raise ReleaseNotFound(
                f"no dataset {dataset} on Segments.ai, or the key may not see it",
                hint="check owner and name; of a dataset on the Hub say which split is meant, with --split",
            )
        kind = str(getattr(found.task_type, "value", found.task_type))
        entries = platform.entries(dataset)
        return samples_of(entries, task_type=kind if kind in SUPPORTED else BITMAP, labelset="")


class _Entries(Platform):
    """Samples with all their images; `Platform.samples` knows single ones alone."""

    def entries(self, dataset: str) -> Iterator[dict[str, Any]]:
        """The samples as a release has them, without labels."""
        page = 1
        while found := self._page(dataset, page):
            for sample in found:
                attributes = sample.attributes.model_dump() if sample.attributes is not None else None
                yield {"uuid": sample.uuid, "name": sample.name, "attributes": attributes, "metadata": sample.metadata}
            if len(found) < PER_PAGE:
                return
            page += 1


@dataclass(frozen=True, eq=False)
class CurrentImage:
    """A sample's image, fetched, or the reason why it was not."""

    sample: Sample
    path: Path | None
    problem: str = ""

    def read(self) -> bytes:
        """The bytes of the image. Raises BitmapError, with the reason."""
        if self.path is None:
            raise BitmapError(self.problem)
        try:
            return self.path.read_bytes()
        except OSError as e:
            raise BitmapError(e.strerror or str(e)) from None


def current_images(dataset: str, samples: Sequence[Sample]) -> Generator[CurrentImage, None, None]:
    """The images of `current_samples` in their order, some fetched ahead as `pull` does it, into the asset cache.

    The cache is left alone while this is gone through.
    """
    file = ReleaseFile(b"", dataset, named=True)
    assets: dict[str, Asset] = {}
    problems: dict[str, str] = {}
    for sample in samples:
        try:
            if sample.image_url and not sample.problem:
                assets[sample.uuid] = Asset(file.locate(sample.image_url), "image")
            else:
                problems[sample.uuid] = sample.problem or "it has no image"
        except AssetError as e:
            problems[sample.uuid] = e.message
    cache = AssetCache()
    entries = {str(assets[s.uuid].location): s.entry for s in samples if s.uuid in assets}
    wanted = [assets[s.uuid] for s in samples if s.uuid in assets]
    with (
        cache.in_use(),
        signing(file, entries) as sign,
        closing(stream_assets(wanted, cache=cache, workers=DOWNLOADS, ahead=AHEAD, sign=sign)) as images,
    ):
        for sample in samples:
            found = next(images) if sample.uuid in assets else problems[sample.uuid]
            yield CurrentImage(sample, None, found) if isinstance(found, str) else CurrentImage(sample, found.path)
