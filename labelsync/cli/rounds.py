"""`labelsync init`, `run`, `status`, `promote`, `rollback`: rounds from labelsync.toml."""

from pathlib import Path

import click

from labelsync.cli.boundary import show, show_gated
from labelsync.cli.options import json_option, out_option, overwrite_option, percent, table
from labelsync.records.rounds import InitRecord, ProductionRecord, RoundRecord, StatusRecord

config_argument = click.argument("config", type=click.Path(path_type=Path), default=Path("labelsync.toml"))


@click.command(short_help="Write a commented labelsync.toml.")
@out_option("The file to write.", required=False, default=Path("labelsync.toml"))
@click.option(
    "--dataset", default="acme/sidewalk", show_default=True, metavar="OWNER/NAME", help="The dataset on Segments.ai."
)
@overwrite_option
@json_option
def init(*, out: Path, dataset: str, overwrite: bool, as_json: bool) -> None:
    """Write labelsync.toml, which says what `labelsync run` does after each labeling round.

    Every key is in it, with its default and what it means.
    """
    from labelsync.pipeline.config import init as verb

    def text(record: InitRecord) -> str:
        return f"{record.path}: edit it, then run `labelsync run`"

    show(verb(out=out, dataset=dataset, overwrite=overwrite), as_json=as_json, text=text)


@click.command(short_help="A whole labeling round, from labelsync.toml.")
@config_argument
@click.option("--release", metavar="NAME", help="The release.  [default: the newest]")
@click.option("--from", "from_", metavar="STAGE", help="The first stage to run; those before it are taken as they are.")
@click.option("--until", metavar="STAGE", help="The last stage to run.")
@click.option("--force", multiple=True, metavar="STAGE", help="Run this stage although nothing has changed.")
@click.option("--dry-run", is_flag=True, help="Tell what would run, and do nothing.")
@json_option
def run(
    *,
    config: Path,
    release: str | None,
    from_: str | None,
    until: str | None,
    force: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn the newest release into a published dataset and a trained model, and compare it with the last one.

    Stages: pull, diff, check, convert, push-dataset, train, evaluate, compare, push-model, promote. What has not
    changed is not done again; after a kill or an error the next run goes on where it was. Exits 3 if a gate in CONFIG
    (default labelsync.toml) does not hold: then the model is published and `production` stays where it was.
    """
    from labelsync.pipeline.run import run as verb

    show_gated(
        lambda: verb(config, release=release, from_=from_, until=until, force=force, dry_run=dry_run),
        as_json=as_json,
        text=_run_text,
    )


@click.command(short_help="The rounds so far.")
@config_argument
@json_option
def status(*, config: Path, as_json: bool) -> None:
    """Show the rounds of CONFIG: sizes, scores, where each is published, which model is in production."""
    from labelsync.pipeline.status import status as verb

    show(verb(config), as_json=as_json, text=_status_text)


@click.command(short_help="Put a round's model into production.")
@config_argument
@click.option("--release", metavar="NAME", help="The round.  [default: the newest with a model]")
@json_option
def promote(*, config: Path, release: str | None, as_json: bool) -> None:
    """Move the tag `production` of the model repo to a round's model, whatever its gates said."""
    from labelsync.pipeline.production import promote as verb

    show(verb(config, release=release), as_json=as_json, text=_production_text)


@click.command(short_help="Put the model before into production again.")
@config_argument
@json_option
def rollback(*, config: Path, as_json: bool) -> None:
    """Move the tag `production` of the model repo back to the model that had it before."""
    from labelsync.pipeline.production import rollback as verb

    show(verb(config), as_json=as_json, text=_production_text)


def _run_text(record: RoundRecord) -> str:
    rows: list[tuple[str, ...]] = [
        (s.stage, s.outcome, f"{s.seconds:.1f} s" if s.seconds else "", s.note) for s in record.stages
    ]
    releases = ", ".join(f"{dataset} {release}" for dataset, release in record.releases.items())
    lines = [
        f"round {record.number}, {record.name} ({releases})" + (f", after {record.previous}" * bool(record.previous))
    ]
    lines.append(_stage_table(rows))
    if record.mean_iou is not None:
        before = record.baseline_mean_iou
        lines.append(
            f"mean IoU {percent(record.mean_iou)}" + ("" if before is None else f", the last model {percent(before)}")
        )
    lines += [f"published: {url}" for url in (record.dataset_url, record.model_url) if url]
    return "\n".join([*lines, record.path])


def _stage_table(rows: list[tuple[str, ...]]) -> str:
    """Stage, outcome and seconds in columns; the note as it is."""
    columns = table([row[:3] for row in rows]).splitlines()
    width = max(map(len, columns), default=0)
    return "\n".join(f"  {c:{width}}  {row[3]}".rstrip() for c, row in zip(columns, rows, strict=True))


def _status_text(record: StatusRecord) -> str:
    if not record.rounds:
        return f"{record.path}: no round yet; start with `labelsync run`"
    rows: list[tuple[str, ...]] = [("round", "samples", "classes", "mean IoU", "")]
    for r in record.rounds:
        what = ", ".join(
            part
            for part in (
                "production" if r.production else "",
                f"stopped at {r.stopped_at}" if r.stopped_at else "",
                r.dataset_url,
                r.model_url,
            )
            if part
        )
        rows.append((r.name, str(r.samples), str(r.classes), percent(r.mean_iou), what))
    columns = table([row[:4] for row in rows]).splitlines()
    width = max(map(len, columns))
    return "\n".join(f"{c:{width}}  {row[4]}".rstrip() for c, row in zip(columns, rows, strict=True))


def _production_text(record: ProductionRecord) -> str:
    where = f" ({record.repo_id}@production, commit {record.commit[:8]})" if record.repo_id else ""
    before = f"; {record.before} was" if record.before and record.before != record.production else ""
    return f"round {record.production} is in production{where}{before}"
