"""`run`: one labeling round from labelsync.toml, its stages in order, gone on with where it was."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from labelsync.errors import GateFailed, LabelsyncError, OptionError, OutputLocked
from labelsync.pipeline.config import NAME, Config, read_config
from labelsync.pipeline.page import write_page
from labelsync.pipeline.rounds import Round, read_rounds, round_name, rounds_folder
from labelsync.pipeline.sources import find_sources
from labelsync.pipeline.stages import STAGES
from labelsync.pipeline.summary import write_summary
from labelsync.records.rounds import RoundRecord, StageRun
from labelsync.store.folder import locked


def run(
    config: str | Path = Path(NAME),
    *,
    release: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    force: Sequence[str] = (),
    dry_run: bool = False,
) -> RoundRecord:
    """Turn one release into a published dataset, a trained model, its scores beside those of the last one, and a tag.

    The stages are pull, diff, check, convert, push-dataset, train, evaluate, compare, push-model and promote. A stage
    whose inputs and settings are those of the last time does nothing; a run that was killed goes on where it was. What
    a round leaves lies in rounds/<release>/ beside the configuration; round.json there is this record.

    Args:
        config: a labelsync.toml, or its folder.
        release: name of the release; None = the newest one of each dataset.
        from_: the first stage to run; those before it are taken as they are.
        until: the last stage to run.
        force: stages that run although nothing has changed; what they left is replaced.
        dry_run: tell what would run, and do nothing.

    Raises:
        GateFailed: a gate does not hold; the model is published, and production stays where it was. The error carries
            the record.
        OptionError: the configuration cannot be used, or there is no such stage.
        OutputLocked: another run is at work beside this configuration.
        LabelsyncError: whatever a stage raises; what the stages before it left stays, and the next run goes on there.
    """
    read = read_config(config)
    names = _chosen(from_, until, force)
    with _alone(read):
        round = _begin(read, release, forced=frozenset(force), dry_run=dry_run)
        _require_done(round, names)
        for name in names:
            if dry_run:
                round.record = replace(round.record, stages=(*_others(round, name), _planned(round, name)))
                continue
            _run_stage(round, name)
        if read.report.summary and not dry_run:
            write_summary(round.record)
        if read.report.html and "compare" in names and not dry_run:
            write_page(round)
    failed = () if dry_run else round.record.failed_gates
    if failed:
        raise GateFailed(
            f"round {round.record.name}: {len(failed)} of its gates do not hold",
            hint="look at its comparison.json; `labelsync promote` overrules the gates",
            details=failed,
            record=round.record,
        )
    return round.record


def _chosen(from_: str | None, until: str | None, force: Sequence[str]) -> list[str]:
    """The names of the stages to run. Raises OptionError for one that there is not."""
    order = list(STAGES)
    for flag, values in (("--from", (from_,)), ("--until", (until,)), ("--force", force)):
        for name in values:
            if name is not None and name not in STAGES:
                raise OptionError(f"{flag} {name}: there is no such stage", hint=f"stages: {', '.join(order)}")
    first = 0 if from_ is None else order.index(from_)
    last = len(order) if until is None else order.index(until) + 1
    if last <= first:
        raise OptionError(f"--until {until} stands before --from {from_}", hint=f"stages: {', '.join(order)}")
    for name in force:
        if name not in order[first:last]:
            raise OptionError(f"--force {name} is not among the stages that run", hint="widen --from and --until")
    return order[first:last]


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    try:
        with locked(rounds_folder(config)):
            yield
    except OutputLocked:
        raise OutputLocked(f"another labelsync run is at work on {config.path}", hint="wait for it to end") from None


def _begin(config: Config, release: str | None, *, forced: frozenset[str], dry_run: bool) -> Round:
    """The round of a release: the one that was begun, or a new one behind all others."""
    sources = find_sources(config, release)
    rounds = read_rounds(config)
    name = round_name(sources.releases, taken=None if config.segments.files else rounds)
    known = next((r for r in rounds if r.name == name), None)
    number = known.number if known else max((r.number for r in rounds), default=0) + 1
    earlier = tuple(r for r in rounds if r.number < number)
    record = known or RoundRecord(
        path=str(rounds_folder(config) / name),
        name=name,
        number=number,
        releases=sources.releases,
        previous=earlier[-1].name if earlier else "",
    )
    if not dry_run:
        Path(record.path).mkdir(parents=True, exist_ok=True)
    return Round(config, record, earlier, forced)


def _require_done(round: Round, names: Sequence[str]) -> None:
    """Raises OptionError if --from leaves out a stage that never ended."""
    for name in STAGES:
        if name == names[0]:
            return
        ended = round.record.stage(name)
        if ended is None or ended.outcome == "failed":
            raise OptionError(
                f"round {round.record.name} has not been through {name}",
                hint=f"leave out --from, or give --from {name}",
            )


def _run_stage(round: Round, name: str) -> None:
    """Run one stage and keep how it ended, also where it fails."""
    started = time.perf_counter()
    if sys.stderr.isatty():
        tqdm.write(f"round {round.record.name}: {name}", file=sys.stderr)
    try:
        run = STAGES[name](round)
    except LabelsyncError as e:
        _keep(round, StageRun(name, "failed", str(e)), started)
        raise
    _keep(round, run, started)


def _keep(round: Round, run: StageRun, started: float) -> None:
    round.keep(replace(run, seconds=float(f"{time.perf_counter() - started:.1f}")))


def _others(round: Round, name: str) -> tuple[StageRun, ...]:
    return tuple(s for s in round.record.stages if s.stage != name)


def _planned(round: Round, name: str) -> StageRun:
    """What a dry run says of a stage. What it left last time may turn out to be unchanged; only the verb can tell."""
    last = round.record.stage(name)
    if name in round.forced:
        return StageRun(name, "planned", "forced")
    if last is None or last.outcome == "failed":
        return StageRun(name, "planned", "never ended" if last is None else f"failed: {last.note}")
    return StageRun(name, "planned", f"ended before ({last.note}); runs only if something changed", path=last.path)
