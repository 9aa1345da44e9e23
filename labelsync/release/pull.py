"""`pull`: a release, with every image and instance bitmap its labels need, into a folder."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labelsync.errors import AssetError, OptionError, SamplesFailed
from labelsync.records.release import Ledger, LedgerRow, Release, Sample
from labelsync.records.results import PullRecord
from labelsync.records.text import to_json
from labelsync.release.assets import Asset, Fetched, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.folder import BITMAPS, IMAGES, LEDGER, RELEASE, file_stem, release_digest
from labelsync.release.parse import check_status, default_name, load_document, release_of
from labelsync.release.sources import ReleaseFile, read_source, signing
from labelsync.store.files import digest_of, link_or_copy, sha256_file, write_bytes, write_text
from labelsync.store.folder import finished, stage_folder
from labelsync.store.manifest import FileEntry, Manifest, is_whole, write_manifest


def pull(
    source: str | Path,
    *,
    out: str | Path | None = None,
    labelset: str = "ground-truth",
    status: Sequence[str] | None = None,
    wait: float = 600.0,
    workers: int = 16,
    allow_failed: int = 0,
    overwrite: bool = False,
) -> PullRecord:
    """Fetch a release into a folder: release.json, images, instance bitmaps, ledger, manifest.

    Samples with a label in `labelset` get their image and bitmap (labels made of shapes have none); the others are rows
    of the ledger. A frame of a sequence is a sample. Files go through a cache that all rounds share (see `cache`), so a
    second round fetches only what is new. Images in a private bucket (https, s3://, gs://, az://) are read with the
    login of the environment, else, for a release that is named, by URLs that Segments.ai signs.

    Args:
        source: "owner/dataset@release" (key in SEGMENTS_API_KEY, server in SEGMENTS_API_URL), or a release file by
            path or http(s) URL.
        out: the folder to make; None = "<dataset>-<release>" here.
        labelset: whose labels are wanted.
        status: label statuses that are wanted; None = every label, whatever its status.
        wait: seconds to wait for a release that is PENDING.
        workers: downloads at the same time.
        allow_failed: number of samples that may fail without stopping the pull; they are in the ledger.
        overwrite: replace another release's folder at `out`. The same release again needs no leave: if nothing is
            missing there nothing is done, else it is completed.

    Raises:
        OptionError, AuthError, ServiceError, ReleaseNotFound, ReleaseNotReady, ReleaseFormatError: no release.
        SamplesFailed: more than `allow_failed` samples failed; no folder is left, what was fetched stays cached.
        OutputExists, OutputLocked: something else lies at `out`, or is being made there.
    """
    for flag, value, least in (("--workers", workers, 1), ("--allow-failed", allow_failed, 0), ("--wait", wait, 0)):
        if not value >= least:  # a NaN is refused too
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {least} or more")
    file = read_source(source, wait=wait)
    release, digest = _read(file, labelset)
    wanted = None if status is None else check_status(status)
    plans = [_plan(s, file) if _is_wanted(s, wanted) else _Plan(s, filtered=True) for s in release.samples]
    target = Path(default_name(release, where=file.where) if out is None else out)
    inputs = {"release": digest} | _local_inputs(plans, file)
    settings = {"labelset": labelset} | ({} if wanted is None else {"status": list(wanted)})
    old = finished(target, "pull", inputs=inputs, settings=settings)
    if old is not None and _is_complete(target, old):
        return _record(target, old, reused=len(old.files) - 1, unchanged=True)
    images = {str(p.image.location): p.sample.entry for p in plans if p.image is not None}
    store = AssetCache()
    with (
        stage_folder(target, stage="pull", overwrite=overwrite or old is not None) as work,
        store.in_use(),
        signing(file, images) as sign,
    ):
        fetch = partial(fetch_assets, cache=store, workers=workers, sign=sign)
        fetched, problems = fetch([a for p in plans for a in p.assets])
        ledger = Ledger(tuple(_ledger_row(p, problems) for p in plans))
        ledger.require_complete(release.samples)
        _refuse_losses(ledger, allow_failed)
        write_bytes(work / RELEASE, file.data)
        known: dict[str, FileEntry] = {}
        for p, row in zip(plans, ledger.rows, strict=True):
            if row.outcome == "pulled":
                known |= _place(p, fetched, work, again=fetch)
        write_text(work / LEDGER, to_json(ledger) + "\n")
        # release.json stands in the digest by `inputs`, which new signatures in its URLs do not change
        summary = _summary(release, ledger)
        manifest = write_manifest(
            work, "pull", inputs=inputs, settings=settings, summary=summary, exclude=(RELEASE,), known=known
        )
    got = fetched.values()
    return _record(
        target,
        manifest,
        fetched=sum(f.origin != "cache" for f in got),
        reused=sum(f.origin == "cache" for f in got),
        bytes_fetched=sum(f.downloaded for f in got),
    )


# -------------------------------------------------------------------- what each sample needs


def _read(file: ReleaseFile, labelset: str) -> tuple[Release, str]:
    """The release of a file, and its digest."""
    document = load_document(file.data, where=file.where)
    release = release_of(document, where=file.where, labelset=labelset)
    return release, release_digest(document, where=file.where)


@dataclass(frozen=True)
class _Plan:
    """One sample and the files it needs; `problem` = why it has failed before anything was fetched, `filtered` = its
    label has a status that is not wanted."""

    sample: Sample
    image: Asset | None = None
    bitmap: Asset | None = None
    problem: str = ""
    filtered: bool = False

    @property
    def assets(self) -> tuple[Asset, ...]:
        return tuple(a for a in (self.image, self.bitmap) if a is not None)


def _is_wanted(sample: Sample, status: Collection[str] | None) -> bool:
    """Whether a sample is to be pulled; one that cannot be used at all is lost, not filtered."""
    return status is None or sample.label is None or sample.problem != "" or sample.label.status in status


def _plan(sample: Sample, file: ReleaseFile) -> _Plan:
    label = sample.label
    if sample.problem or label is None:
        return _Plan(sample, problem=sample.problem)
    if sample.image_url is None:
        return _Plan(sample, problem="its image has no URL")
    if label.lacks_bitmap:
        return _Plan(sample, problem=f"its label has {len(label.annotations)} annotations and no bitmap URL")
    try:
        image = Asset(file.locate(sample.image_url), "image")
        bitmap = None if label.bitmap_url is None else Asset(file.locate(label.bitmap_url), "bitmap")
    except AssetError as e:
        return _Plan(sample, problem=e.message)
    return _Plan(sample, image, bitmap)


def _local_inputs(plans: list[_Plan], file: ReleaseFile) -> dict[str, str]:
    """Digest of the files beside a release file, which can change while the release file stays the same."""
    paths = {a.location for p in plans for a in p.assets if isinstance(a.location, Path)}
    if file.folder is None or not paths:
        return {}
    return {"files": digest_of({p.relative_to(file.folder).as_posix(): sha256_file(p) for p in sorted(paths)})}


def _ledger_row(plan: _Plan, problems: Mapping[Asset, str]) -> LedgerRow:
    sample = plan.sample
    reasons = [f"{a.kind} {problems[a]}" for a in plan.assets if a in problems]
    reason = plan.problem or "; ".join(reasons)
    if reason:
        return LedgerRow(sample.uuid, sample.name, "failed", reason, sample.label.status if sample.label else "")
    if sample.label is None:
        why = "no label on this frame" if sample.sequence else "no label in this labelset"
        return LedgerRow(sample.uuid, sample.name, "unlabeled", why)
    if plan.filtered:
        reason = f"status {sample.label.status}, not pulled"
        return LedgerRow(sample.uuid, sample.name, "filtered", reason, sample.label.status)
    return LedgerRow(sample.uuid, sample.name, "pulled", status=sample.label.status)


def _refuse_losses(ledger: Ledger, allowed: int) -> None:
    failed = ledger.failed
    if len(failed) <= allowed:
        return
    first = failed[0]
    more = f"; {len(failed) - 1} more of {len(ledger.rows)} samples failed" if len(failed) > 1 else ""
    raise SamplesFailed(
        f"sample {first.name!r} failed: {first.reason}{more}",
        hint=f"what was fetched is kept; mend it and pull again, or pass --allow-failed {len(failed)}",
        details=[f"{row.name!r} ({row.uuid}): {row.reason}" for row in failed] if more else (),
    )


# -------------------------------------------------------------------- the folder


_Fetch = Callable[[list[Asset]], tuple[dict[Asset, Fetched], dict[Asset, str]]]


def _place(plan: _Plan, fetched: Mapping[Asset, Fetched], work: Path, *, again: _Fetch) -> dict[str, FileEntry]:
    """Put a sample's files into the folder: links to the cache, copies of a user's own files.

    A file that has vanished from the cache meanwhile is fetched `again`. Returns path -> digest and size, of the files
    that the cache knows: `convert` holds the content to them, so what was damaged there since is found out.
    """
    stem, known = file_stem(plan.sample.uuid), {}
    for asset in plan.assets:
        source, folder = fetched[asset], IMAGES if asset.kind == "image" else BITMAPS
        try:
            _put(source, work / folder, stem)
        except FileNotFoundError:
            got, problems = again([asset])
            if asset in problems:
                raise AssetError(
                    f"{plan.sample.name!r}: {asset.kind} {problems[asset]}", hint="pull once more"
                ) from None
            source = got[asset]
            _put(source, work / folder, stem)
        if source.entry is not None:
            known[f"{folder}/{stem}.{source.extension}"] = source.entry
    return known


def _put(source: Fetched, folder: Path, stem: str) -> None:
    target = folder / f"{stem}.{source.extension}"
    if source.origin == "folder":  # a link would let an edit of the original change a finished folder
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source.path, target)
    else:
        link_or_copy(source.path, target)


def _is_complete(target: Path, manifest: Manifest) -> bool:
    """No sample failed that time, and every file is there with its size."""
    failed = manifest.summary["outcomes"]["failed"]
    return not failed and (target / RELEASE).is_file() and is_whole(target, manifest)


def _summary(release: Release, ledger: Ledger) -> dict[str, Any]:
    return {
        "release": release.name,
        "dataset": release.dataset,
        "samples": len(ledger.rows),
        "outcomes": dict(ledger.totals),
    }


def _record(
    target: Path,
    manifest: Manifest,
    *,
    fetched: int = 0,
    reused: int = 0,
    bytes_fetched: int = 0,
    unchanged: bool = False,
) -> PullRecord:
    return PullRecord(
        path=str(target),
        **manifest.summary,
        fetched=fetched,
        reused=reused,
        bytes_fetched=bytes_fetched,
        digest=manifest.digest,
        unchanged=unchanged,
    )
