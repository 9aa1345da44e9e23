"""`select`: the images of a folder or a video that are worth labeling, before any of them is uploaded."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.deploy.seen import Seen, Sight, seeing
from labelsync.deploy.strategy import DIGITS, Strategy, judge, ranking, read_strategy, require_strategy
from labelsync.errors import BitmapError, OptionError, SamplesFailed
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.model.source import locate
from labelsync.pixels.image import decode_image
from labelsync.pixels.video import count_frames
from labelsync.records.selection import ChosenImage, SelectRecord
from labelsync.records.text import from_json, to_json
from labelsync.release.gather import Picture, frames_of, gather
from labelsync.store.files import digest_of, sha256_if_readable, write_bytes, write_text
from labelsync.store.folder import already_made, stage_folder
from labelsync.store.manifest import write_manifest

LIST = "chosen.jsonl"
IMAGES = "images"


def select(
    images: str | Path | Sequence[str | Path],
    *,
    model: str | Path,
    count: int,
    strategy: str = "entropy+diverse",
    every: int = 10,
    out: str | Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
    overwrite: bool = False,
) -> SelectRecord:
    """Choose the images that a model would learn most from, out of more than people can label.

    Images and frames are called as `add_images` calls them. With `out` the chosen ones are left in its folder images/,
    which add_images takes as it is, and their list in chosen.jsonl, the first first. The same input gives the same
    choice. With `out` an interrupted run goes on where it was when the command is given again: what the model has said
    so far is kept in .OUT.unfinished beside the folder.

    Args:
        images: image files, folders (every image below them) and videos; one or several of them.
        model: a model folder or a Hub id "user/name[@revision]", such as the last round's.
        count: how many to choose; all, if there are not more.
        strategy: what makes an image worth it, as for `prelabel`. Neighbouring frames of a video look alike, and a
            model is unsure of all or none of them; "+diverse" keeps them apart.
        every: of a video, one frame in so many is looked at.
        out: folder to leave; None = none.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        overwrite: replace what a choice left at `out`. The same choice again does nothing.

    Raises:
        OptionError: no image there, two images of one name, or a value that cannot be used.
        ModelNotFound, ModelError: as `labelsync.Segmenter`.
        SamplesFailed: images could not be read; the choice is made among the others, and left at `out`.
        OutputExists: `out` is not empty.
    """
    order = read_strategy(strategy)
    for flag, value in (("--count", count), ("--every", every)):
        if value < 1:
            raise OptionError(f"{flag} is {value}, which is out of range", hint="give 1 or more")
    found = _gather(images, outside=out)
    digests = _digests(found)
    inputs = {"model": locate(model).digest, "images": _digest_of(found, digests)}
    settings = {"count": count, "strategy": order.name, "every": every}
    manifest = None if out is None or overwrite else already_made(Path(out), "select", inputs=inputs, settings=settings)
    if manifest is not None:
        summary = manifest.summary | {"path": str(out), "model": str(model), "unchanged": True}
        record = from_json(SelectRecord, to_json(summary), where="manifest.json")
    else:
        segmenter = Segmenter(model, device=device, batch_size=batch_size)
        require_strategy(segmenter, order)
        look = partial(_Look, segmenter, found, digests, order, every)
        if out is None:
            record, _ = _choose(look(None), count)
        else:
            with (
                stage_folder(out, stage="select", overwrite=overwrite) as work,
                seeing(Path(out), inputs["model"], order) as seen,
            ):
                record, pictures = _choose(look(seen), count)
                _leave(work, record.chosen, pictures, every=every)
                summary = {k: v for k, v in asdict(record).items() if k not in ("path", "model", "unchanged")}
                write_manifest(work, "select", inputs=inputs, settings=settings, summary=summary)
                seen.discard()
        record = replace(record, path=str(out or ""), model=str(model))
    _refuse_failed(record)
    return record


def _gather(images: str | Path | Sequence[str | Path], *, outside: str | Path | None) -> list[Picture | Path]:
    """What is looked at; what an earlier choice left in the folder `outside` is not chosen from again."""
    found = gather([images] if isinstance(images, str | Path) else images)
    if outside is not None:
        below = os.path.realpath(outside)
        found = [p for p in found if not Path(os.path.realpath(_path(p))).is_relative_to(below)]
        if not found:
            raise OptionError(f"all images lie in {outside}, the folder to leave", hint="choose another --out")
    if at_urls := [p for p in found if isinstance(p, Picture) and p.url]:
        raise OptionError(f"{at_urls[0].name!r} is at a URL", hint="select looks at files: download it first")
    return found


def _digests(found: Sequence[Picture | Path]) -> dict[Path, str]:
    """Of the content of what is looked at; a file that cannot be read has "", and is told of later."""
    paths = dict.fromkeys(_path(p) for p in found)
    return {path: sha256_if_readable(path) for path in paths}


def _digest_of(found: Sequence[Picture | Path], digests: Mapping[Path, str]) -> str:
    """Of the names and contents of all."""
    return digest_of([[p.name, digests[_path(p)]] for p in found])


def _path(item: Picture | Path) -> Path:
    return item.path if isinstance(item, Picture) else item


def _refuse_failed(record: SelectRecord) -> None:
    if record.failed:
        left = f"; {len(record.chosen)} of the others are chosen" if record.chosen else ""
        raise SamplesFailed(
            f"{len(record.failed)} of {record.images + len(record.failed)} images could not be read{left}",
            hint=f"the choice is in {record.path}" if record.path else "repair or leave out the images named above",
            details=[f"{name!r}: {problem}" for name, problem in record.failed.items()],
        )


# -------------------------------------------------------------------- the choice


@dataclass(frozen=True, eq=False)
class _Look:
    """What is looked at, and how; `digests` = of the files, `seen` = what an interrupted run has kept."""

    segmenter: Segmenter
    found: Sequence[Picture | Path]
    digests: Mapping[Path, str]
    order: Strategy
    every: int
    seen: Seen | None

    def identity(self, picture: Picture) -> str:
        """What an image is made of."""
        return picture.digest or f"sha256:{self.digests[picture.path]}"

    def find(self, picture: Picture) -> Sight | None:
        """What the model has said of a picture already."""
        return self.seen.find(picture.name, self.identity(picture)) if self.seen is not None else None

    def add(self, picture: Picture, sight: Sight) -> None:
        """Keep what the model says of a picture."""
        if self.seen is not None:
            self.seen.add(picture.name, self.identity(picture), sight)


def _choose(look: _Look, count: int) -> tuple[SelectRecord, list[Picture]]:
    """The record, still without what depends on the call, and the pictures that were chosen."""
    failed: dict[str, str] = {}
    judged, order = list(_judged(look, failed)), look.order
    if not judged:
        if look.seen is not None:
            look.seen.discard()
        _refuse_failed(SelectRecord("", "", order.name, 0, (), failed))
    unsure, embeddings = [sight.unsure for _, sight in judged], [sight.embedding for _, sight in judged]
    best = [judged[i] for i in ranking(unsure, embeddings, order, count=count)]
    chosen = tuple(
        ChosenImage(
            name=picture.name,
            source=str(picture.path),
            frame=picture.metadata.get("frame"),
            uncertainty=round(sight.unsure, DIGITS) if order.uncertainty else None,
        )
        for picture, sight in best
    )
    return SelectRecord("", "", order.name, len(judged), chosen, failed), [picture for picture, _ in best]


def _judged(look: _Look, failed: dict[str, str]) -> Iterator[tuple[Picture, Sight]]:
    """Every image in order, while the next are read; of its pixels nothing is kept. `failed` gets those that cannot be
    read."""
    frames = [count_frames(v) for v in look.found if isinstance(v, Path)]
    total = sum(isinstance(p, Picture) for p in look.found) + sum(-(-n // look.every) for n in frames)

    def load(picture: Picture) -> npt.NDArray[np.uint8] | Sight:
        return look.find(picture) or _load(picture)

    with tqdm(total=None if 0 in frames else total, desc="select", unit="image", disable=None) as bar:
        for batch in load_ahead(_pictures(look, failed), load, batch_size=look.segmenter.batch_size):
            failed |= {x.item.name: x.problem for x in batch if x.value is None}
            new = [x.value for x in batch if isinstance(x.value, np.ndarray)]
            answers = iter(judge(look.segmenter, new, look.order) if new else ())
            for loading in batch:
                if isinstance(loading.value, np.ndarray):
                    answer = next(answers)
                    sight = Sight(answer.uncertainty, answer.embedding)
                    look.add(loading.item, sight)
                    yield _bare(loading.item), sight
                elif loading.value is not None:
                    yield _bare(loading.item), loading.value
            bar.update(len(batch))


def _pictures(look: _Look, failed: dict[str, str]) -> Iterator[Picture]:
    """Images as they are, videos frame by frame; one that breaks off goes into `failed`, what came before counts."""
    for item in look.found:
        if isinstance(item, Picture):
            yield item
            continue
        empty = True
        try:
            for frame in frames_of(item, every=look.every, skip=lambda p: look.find(p) is not None):
                empty = False
                yield frame
        except BitmapError as e:
            failed[item.name] = e.message
        else:
            if empty:
                failed[item.name] = "it is a video without a frame"


def _load(picture: Picture) -> npt.NDArray[np.uint8]:
    if picture.problem:
        raise BitmapError(picture.problem)
    try:
        return decode_image(picture.read())
    except OSError as e:
        raise BitmapError(e.strerror or str(e)) from None


def _bare(picture: Picture) -> Picture:
    """The picture without the bytes of its frame."""
    return Picture(picture.name, path=picture.path, digest=picture.digest, metadata=picture.metadata)


# -------------------------------------------------------------------- the folder


def _leave(work: Path, chosen: Sequence[ChosenImage], pictures: Sequence[Picture], *, every: int) -> None:
    """images/, with the very bytes that `add_images` would have sent, and the list."""
    wanted = {p.name for p in pictures}
    for picture in pictures:
        if not picture.metadata:
            write_bytes(work / IMAGES / picture.name, picture.path.read_bytes())
    for video in sorted({p.path for p in pictures if p.metadata}):
        try:
            for frame in frames_of(video, every=every, skip=lambda p: p.name not in wanted):
                if frame.name in wanted:
                    write_bytes(work / IMAGES / frame.name, frame.data)
        except BitmapError:  # it breaks off behind the frames that were chosen, as it did before
            continue
    lines = [json.dumps({"place": i, **_listed(c)}, ensure_ascii=False) for i, c in enumerate(chosen, 1)]
    write_text(work / LIST, "".join(line + "\n" for line in lines))


def _listed(chosen: ChosenImage) -> dict[str, Any]:
    return {k: v for k, v in asdict(chosen).items() if v is not None}
