"""The images of a dataset as it is on Segments.ai now, released or not, through the asset cache."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labelsync.errors import AssetError, BitmapError, ReleaseNotFound
from labelsync.records.release import Sample
from labelsync.release.assets import Asset, Fetched, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.entries import BITMAP, SUPPORTED, samples_of
from labelsync.release.platform import PER_PAGE, Platform
from labelsync.release.sources import ReleaseFile, signing

_WORKERS = 16


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


@dataclass(frozen=True)
class CurrentImages:
    """Images that were fetched, and for the others the reason."""

    fetched: Mapping[str, Fetched]
    problems: Mapping[str, str]

    def read(self, sample: Sample) -> bytes:
        """The bytes of a sample's image. Raises BitmapError, with the reason."""
        if sample.uuid not in self.fetched:
            raise BitmapError(self.problems.get(sample.uuid, "it has no image"))
        return self.fetched[sample.uuid].path.read_bytes()


@contextmanager
def current_images(dataset: str, samples: Sequence[Sample]) -> Iterator[CurrentImages]:
    """The images of `current_samples`, fetched as `pull` does it; the cache is left alone meanwhile."""
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
    with cache.in_use(), signing(file, entries) as sign:
        fetched, failed = fetch_assets(assets.values(), cache=cache, workers=_WORKERS, sign=sign)
        yield CurrentImages(
            {uuid: fetched[asset] for uuid, asset in assets.items() if asset in fetched},
            problems | {uuid: failed[asset] for uuid, asset in assets.items() if asset in failed},
        )
