"""The stages `evaluate` and `compare`: this round's model, and beside it the one that robots use today.

Both are scored on this round's images with today's labels. Splits never move a sample, so neither was trained on them.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labelsync.errors import GateFailed, ModelNotFound, OutputExists
from labelsync.model.source import locate
from labelsync.pipeline.rounds import PRODUCTION_TAG, Round, production_history, same_as_before
from labelsync.records.results import EvaluateRecord
from labelsync.records.rounds import StageRun
from labelsync.records.scores import CompareRecord
from labelsync.records.text import to_json
from labelsync.store.files import digest_of, sha256_file, write_text
from labelsync.store.manifest import MANIFEST, read_manifest

COMPARISON = "comparison.json"


def evaluate_model(round: Round) -> StageRun:
    """The stage `evaluate`."""
    out, given = round.folder / "evaluation", round.config.evaluate
    digests = [read_manifest(round.folder / f, s).digest for f, s in (("model", "train"), ("dataset", "convert"))]
    ways = {"flip": given.flip, "scales": list(given.scales), "window": given.window}
    plain = {"flip": False, "scales": [1.0], "window": None}
    stated = [] if ways == plain else [ways]  # a round of before is still the same
    key = digest_of([*digests, given.split, list(given.by), _groups_digest(round), *stated])
    if same := same_as_before(round, "evaluate", key, out, "evaluate"):
        return same
    record = _evaluated(round, round.folder / "model", out, overwrite=True)
    run = StageRun("evaluate", "done", f"mean IoU {score(record.mean_iou)} on {given.split}", key=key, path=out.name)
    round.keep(run, mean_iou=record.mean_iou)
    return run


def compare_with_last(round: Round) -> StageRun:
    """The stage `compare`: gates, and the comparison they may be about. A gate that fails ends no stage."""
    last = _last_model(round)
    if last is None:
        return _without_baseline(round)
    key, out = _key(round, last), round.folder / "baseline"
    if same := same_as_before(round, "compare", key, out, "evaluate"):
        return same
    forced = "compare" in round.forced
    _evaluated(round, last.source, out, align=True, renamed=_renamed(round, last), overwrite=forced)
    from labelsync.evaluation.compare import compare

    failed: tuple[str, ...] = ()
    try:
        record = compare(
            round.folder / "evaluation",
            baseline=round.folder / "baseline",
            on_common=True,
            gate=round.config.gates.require,
        )
    except GateFailed as e:
        failed = tuple(e.details)
        assert isinstance(e.record, CompareRecord)  # noqa: S101 - what `compare` raises with
        record = e.record
    write_text(round.folder / COMPARISON, to_json(record) + "\n")
    note = _note(record, last.name, failed)
    run = StageRun("compare", "done", note, key=key, path=COMPARISON, figures=_figures(record))
    round.keep(run, baseline_mean_iou=record.figures["mean_iou"].baseline, failed_gates=failed)
    return run


def score(value: float | None) -> str:
    """A score as people read it."""
    return "-" if value is None else f"{value:.4f}"


# -------------------------------------------------------------------- the other model


@dataclass(frozen=True)
class _Last:
    """A model that was published before: how it is called, and where it is: a folder, or "user/name@commit"."""

    name: str
    source: str | Path


def _last_model(round: Round) -> _Last | None:
    """The model in production, else that of the newest earlier round; on another machine, the one on the Hub."""
    history = [name for name in production_history(round.config) if name != round.record.name]
    rounds = {record.name: Path(record.path) / "model" for record in round.earlier}
    for name in [*reversed(history), *reversed(rounds)]:
        if name in rounds and (rounds[name] / MANIFEST).is_file():
            return _Last(name, rounds[name])
    repo = round.config.hub.model
    if repo is None or round.earlier:
        return None
    source = round.found("model", repo, lambda: _in_production(repo))
    return _Last(f"{repo}@{PRODUCTION_TAG}", source) if source else None


def _in_production(repo: str) -> str:
    """The commit of the model that robots load, "" if there is none yet."""
    try:
        return locate(f"{repo}@{PRODUCTION_TAG}").revision
    except ModelNotFound:
        return ""


def _key(round: Round, last: _Last) -> str:
    """Over all that a comparison is made of."""
    evaluation = read_manifest(round.folder / "evaluation", "evaluate").digest
    source = last.source
    model = read_manifest(source, "train").digest if isinstance(source, Path) else source
    return digest_of([evaluation, model, list(round.config.gates.require)])


def _renamed(round: Round, last: _Last) -> tuple[str, ...]:
    """Classes that were renamed since that model was trained: a pinned map keeps the place of each class."""
    then = read_manifest(locate(last.source).folder, "train").labels
    now = read_manifest(round.folder / "dataset", "convert").labels
    assert then is not None  # noqa: S101 - both stages have one
    assert now is not None  # noqa: S101
    return tuple(f"{a}={b}" for a, b in zip(then.names, now.names, strict=False) if a != b)


def _evaluated(
    round: Round, model: str | Path, out: Path, *, overwrite: bool = False, **options: Any
) -> EvaluateRecord:
    """An evaluation of the round; one of another model or other data that lies there makes way."""
    from labelsync.evaluation.evaluate import evaluate

    given = round.config.evaluate
    run = partial(
        evaluate,
        model,
        dataset=round.folder / "dataset",
        split=given.split,
        batch_size=given.batch_size,
        by=given.by,
        flip=given.flip,
        scales=given.scales,
        window=given.window,
        groups=None if given.groups is None else round.config.located(given.groups),
        out=out,
        **options,
    )
    try:
        return run(overwrite=overwrite)
    except OutputExists:
        return run(overwrite=True)


def _groups_digest(round: Round) -> str:
    groups = round.config.evaluate.groups
    return "" if groups is None else sha256_file(Path(round.config.located(groups)))


# -------------------------------------------------------------------- what came of it


def _without_baseline(round: Round) -> StageRun:
    """Only the gates on the new model itself; those on a difference say nothing yet."""
    plain = [gate for gate in round.config.gates.require if not gate.strip().startswith(("delta.", "baseline."))]
    out = round.folder / "evaluation"
    key = digest_of([read_manifest(out, "evaluate").digest, plain])
    if same := same_as_before(round, "compare", key, out, "evaluate"):
        return same
    failed: tuple[str, ...] = ()
    try:
        _evaluated(round, round.folder / "model", out, gate=plain)
    except GateFailed as e:
        failed = tuple(e.details)
    note = f"no model was published before; {_gates(len(plain), failed)}"
    round.keep(run := StageRun("compare", "done", note, key=key), baseline_mean_iou=None, failed_gates=failed)
    return run


def _note(record: CompareRecord, name: str, failed: tuple[str, ...]) -> str:
    delta = record.figures["mean_iou"]
    interval = "" if delta.low is None else f" [{delta.low:+.4f}, {delta.high:+.4f}]"
    change = "-" if delta.delta is None else f"{delta.delta:+.4f}{interval}"
    apart = [name for what, names in record.left_out.items() if "class" in what for name in names]
    new = f"; new to it: {', '.join(apart)}" if apart else ""
    return f"mean IoU {change} against {name}{new}; {_gates(len(record.gates), failed)}"


def _gates(count: int, failed: tuple[str, ...]) -> str:
    if not count:
        return "no gates"
    if failed:
        return f"{len(failed)} of {count} gates do not hold: {'; '.join(failed)}"
    return "the gate holds" if count == 1 else f"{count} gates hold"


def _figures(record: CompareRecord) -> dict[str, float]:
    found = record.figures["mean_iou"]
    return {name: value for name, value in (("delta", found.delta), ("low", found.low)) if value is not None}
