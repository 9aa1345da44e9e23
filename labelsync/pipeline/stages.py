"""The stages of a round, in order. Each calls one verb and says in one line what came of it.

A stage returns a `StageRun`; "unchanged" is what a verb says that had nothing to do. Those whose verb would first load
a model to find that out are compared by their key before it is called.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetNotFound, GateFailed, OutputExists
from labelsync.pipeline.baseline import compare_with_last, evaluate_model, score
from labelsync.pipeline.production import put_into_production
from labelsync.pipeline.rounds import Round, production_history, same_as_before
from labelsync.pipeline.sources import find_sources
from labelsync.records.changes import DiffRecord
from labelsync.records.findings import CheckRecord
from labelsync.records.rounds import StageRun
from labelsync.records.text import to_json
from labelsync.store.files import digest_of, write_text
from labelsync.store.folder import is_vacant
from labelsync.store.manifest import MANIFEST, read_manifest

Stage = Callable[[Round], StageRun]


def _pull(round: Round) -> StageRun:
    from labelsync.release.pull import pull

    settings, fetched, unchanged, samples = round.config.segments, 0, True, 0
    for source, folder in zip(find_sources_again(round), round.releases, strict=True):
        record = pull(
            source,
            out=folder,
            labelset=settings.labelset,
            allow_failed=round.config.convert.allow_failed,
            overwrite="pull" in round.forced,
        )
        unchanged &= record.unchanged
        samples += record.samples
        fetched += record.bytes_fetched
    note = f"{samples} samples, {fetched / 1e6:.1f} MB fetched"
    return StageRun("pull", _ended(unchanged), note, path="release", figures={"samples": samples, "bytes": fetched})


def find_sources_again(round: Round) -> tuple[str, ...]:
    """What to pull: the releases that the round was begun with, not those that came since."""
    config, releases = round.config, round.record.releases
    if config.segments.files:
        return find_sources(config, round.record.name).pulled
    return tuple(f"{dataset}@{release}" for dataset, release in releases.items())


def _diff(round: Round) -> StageRun:
    before = round.before
    if before is None:
        return StageRun("diff", "skipped", "the first round")
    from labelsync.release.diff import diff

    old = {name: Round(round.config, before, ()).releases[i] for i, name in enumerate(before.releases)}
    key = _releases_key(round, [read_manifest(f, "pull").digest for f in old.values() if f.is_dir()])
    if same := _kept(round, "diff", key):
        return same
    notes, changed = [], 0
    for i, (name, folder) in enumerate(zip(round.record.releases, round.releases, strict=True)):
        if name not in old or not (old[name] / MANIFEST).is_file():
            notes.append(f"{name}: not in round {before.name}")
            continue
        config = round.config
        record = diff(old[name], folder, status=config.convert.status, allow_failed=config.convert.allow_failed)
        write_text(round.folder / ("diff.json" if i == 0 else f"diff-{i + 1}.json"), to_json(record) + "\n")
        changed += sum(n for what, n in record.totals.items() if what != "unchanged")
        notes.append(_diff_note(record))
    return StageRun("diff", "done", "; ".join(notes), key=key, path="diff.json", figures={"changed": changed})


def _diff_note(record: DiffRecord) -> str:
    parts = [f"{n} {what}" for what, n in record.totals.items() if n and what != "unchanged"]
    parts += [f"{old} is now called {new}" for old, new in record.categories.renamed]
    return ", ".join(parts) or "no change"


def _check(round: Round) -> StageRun:
    given = round.config.check
    key = _releases_key(round, [given.strict, list(given.ignore), list(round.config.convert.status)])
    if same := _kept(round, "check", key):
        return same
    names = ["check.json", *(f"check-{i}.json" for i in range(2, len(round.releases) + 1))]
    found = [_checked(round, folder, name) for folder, name in zip(round.releases, names, strict=True)]
    figures = {kind: float(sum(getattr(r, kind) for r in found)) for kind in ("errors", "warnings", "infos")}
    return StageRun("check", "done", "; ".join(map(_check_note, found)), key=key, path="check.json", figures=figures)


def _releases_key(round: Round, settings: list[Any]) -> str:
    return digest_of([[read_manifest(f, "pull").digest for f in round.releases], settings])


def _kept(round: Round, stage: str, key: str) -> StageRun | None:
    """The stage's last end as "unchanged", if it would find the same again."""
    last = round.record.stage(stage)
    if last is None or last.key != key or stage in round.forced or not (round.folder / last.path).is_file():
        return None
    return replace(last, outcome="unchanged", seconds=0.0)


def _checked(round: Round, folder: Path, name: str) -> CheckRecord:
    """Look through a folder and keep what was found. Raises GateFailed where [check] strict says so."""
    from labelsync.quality.check import check

    given = round.config.check
    try:
        record = check(folder, strict=given.strict, ignore=given.ignore, status=round.config.convert.status)
    except GateFailed as e:
        write_text(round.folder / name, to_json(e.record) + "\n")
        raise GateFailed(e.message, hint=f"see {round.folder / name}", details=e.details, record=round.record) from None
    write_text(round.folder / name, to_json(record) + "\n")
    return record


def _check_note(record: CheckRecord) -> str:
    kinds = {name: k.errors + k.warnings for name, k in record.kinds.items()}
    found = ", ".join(f"{n} {name}" for name, n in kinds.items() if n)
    return f"{record.samples} samples looked at, {found or 'nothing wrong'}"


def _convert(round: Round) -> StageRun:
    from labelsync.dataset.convert import convert

    given = round.config.convert
    record = convert(
        round.releases if len(round.releases) > 1 else round.releases[0],
        out=round.folder / "dataset",
        previous=_previous_dataset(round),
        status=given.status,
        labels=None if given.labels is None else round.config.located(given.labels),
        group_by=given.group_by,
        fractions=given.fractions,
        unlabeled=given.unlabeled,
        allow_failed=given.allow_failed,
        overwrite=True,
    )
    last = round.record.stage("convert")
    if record.unchanged and last is not None and last.outcome in ("done", "unchanged"):
        return replace(last, outcome="unchanged", seconds=0.0)
    rows = ", ".join(f"{n} {split}" for split, n in record.splits.items())
    found = _checked(round, round.folder / "dataset", "check-dataset.json")  # what only splits can show
    note = f"{rows}; {record.num_labels} classes; {record.outcomes['failed']} failed; {_check_note(found)}"
    figures: dict[str, float] = {"samples": sum(record.splits.values()), "decoded": record.decoded}
    return StageRun("convert", _ended(record.unchanged), note, path="dataset", figures=figures)


def _previous_dataset(round: Round) -> str | None:
    """The dataset that pins classes and splits: the round before's, or on another machine the published one.

    That may be of this very round, published from elsewhere: the pins are the same, and its rows are taken over.
    """
    for before in reversed(round.earlier):
        if (Path(before.path) / "dataset" / MANIFEST).is_file():
            return str(Path(before.path) / "dataset")
    repo = round.config.hub.dataset
    return None if repo is None else round.found("dataset", repo, lambda: _published_dataset(repo))


def _published_dataset(repo: str) -> str:
    """The commit of a dataset repo, "" if nothing is in it yet."""
    from labelsync.dataset.source import find_dataset

    try:
        return find_dataset(repo).revision
    except DatasetNotFound:
        return ""


def _push_dataset(round: Round) -> StageRun:
    repo = round.config.hub.dataset
    if repo is None:
        return StageRun("push-dataset", "skipped", "no [hub] dataset")
    return _push(round, "push-dataset", "dataset", repo)


def _push_model(round: Round) -> StageRun:
    repo = round.config.hub.model
    if repo is None:
        return StageRun("push-model", "skipped", "no [hub] model")
    return _push(round, "push-model", "model", repo)


def _push(round: Round, stage: str, folder: str, repo: str) -> StageRun:
    from labelsync.hub.push import push

    hub = round.config.hub
    record = push(
        round.folder / folder,
        repo_id=repo,
        tag=round.record.name,
        private=hub.private,
        license=hub.dataset_license if folder == "dataset" else hub.model_license,
        move_tag=stage in round.forced,
        evaluation=_evaluation(round) if folder == "model" else None,
    )
    facts = {"dataset_url" if folder == "dataset" else "model_url": record.url}
    run = StageRun(
        stage,
        _ended(record.unchanged),
        f"{repo}@{record.tag}: {record.added} files of {record.uploaded / 1e6:.1f} MB sent, {record.kept} kept",
        figures={"bytes": record.uploaded, "added": record.added, "kept": record.kept},
    )
    round.keep(run, **facts)
    return run


def _evaluation(round: Round) -> Path | None:
    """What the model card is to tell of; None where the model was trained again and not evaluated since."""
    folder = round.folder / "evaluation"
    if not (folder / MANIFEST).is_file():
        return None
    same = read_manifest(folder, "evaluate").inputs.get("model") == _digest(round, "model", "train")
    return folder if same else None


def _train(round: Round) -> StageRun:
    given, out = round.config.train, round.folder / "model"
    model, recipe = (round.config.located_if_there(n) for n in (given.model, given.recipe))
    settings = given.__dict__ | {"set": list(given.set), "report_to": []}  # who watches changes nothing
    key = digest_of([settings, _digest(round, "dataset", "convert")])
    if same := same_as_before(round, "train", key, out, "train"):
        return same
    from labelsync.training.finetune import train

    options: dict[str, Any] = {
        "out": out,
        "model": model,
        "recipe": recipe,
        "epochs": given.epochs,
        "batch_size": given.batch_size,
        "learning_rate": given.learning_rate,
        "image_size": given.image_size,
        "seed": given.seed,
        "patience": given.patience,
        "report_to": given.report_to,
        "set": given.set,
        "published_as": _published_as(round),
    }
    begun = not is_vacant(out) and not (out / MANIFEST).is_file()
    forced = "train" in round.forced
    try:
        record = train(round.folder / "dataset", resume=begun and not forced, overwrite=forced, **options)
    except OutputExists:  # a run on other data or with other settings: the folder is this round's, so it makes way
        record = train(round.folder / "dataset", overwrite=True, **options)
    note = f"{record.steps} steps, best mean IoU on validation {score(record.mean_iou)} at step {record.best_step}"
    return StageRun("train", "done", note, key=key, path="model", figures={"steps": record.steps})


def _published_as(round: Round) -> str | None:
    """Where the round's dataset is published, for the model's card."""
    repo, pushed = round.config.hub.dataset, round.record.stage("push-dataset")
    if repo is None or pushed is None or pushed.outcome not in ("done", "unchanged"):
        return None
    return f"{repo}@{round.record.name}"


def _digest(round: Round, folder: str, stage: str) -> str:
    return read_manifest(round.folder / folder, stage).digest


def _ended(unchanged: bool) -> Any:
    return "unchanged" if unchanged else "done"


def _promote(round: Round) -> StageRun:
    """A model goes into production once: who rolled it back since, or promoted another one, is not overruled."""
    if round.record.failed_gates:
        return StageRun("promote", "skipped", f"{len(round.record.failed_gates)} gates do not hold")
    key = digest_of([_digest(round, "model", "train"), round.config.hub.model])
    last, now = round.record.stage("promote"), production_history(round.config)[-1:]
    if last is not None and last.key == key and now and "promote" not in round.forced:
        return StageRun("promote", "unchanged", f"{now[0]} is in production", key=key)
    record = put_into_production(round.config, round.record)
    round.record = replace(round.record, production=True)
    before = f", {record.before} was before" if record.before and not record.unchanged else ""
    return StageRun("promote", _ended(record.unchanged), f"{record.production} is in production{before}", key=key)


STAGES: dict[str, Stage] = {
    "pull": _pull,
    "diff": _diff,
    "check": _check,
    "convert": _convert,
    "push-dataset": _push_dataset,
    "train": _train,
    "evaluate": evaluate_model,
    "compare": compare_with_last,
    "push-model": _push_model,
    "promote": _promote,
}
