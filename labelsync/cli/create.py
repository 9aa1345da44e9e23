"""`labelsync create`, `add-images`, `create-release`: where a labeling round starts."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import amount, json_option
from labelsync.records.platform import AddImagesRecord, CreateRecord, CreateReleaseRecord

_LISTED = 20  # rows in the text; the record has them all


@click.command(short_help="Make a dataset on Segments.ai, with its categories.")
@click.argument("dataset")
@click.option(
    "--categories",
    required=True,
    metavar="sidewalk|FILE|RELEASE",
    help="The sidewalk preset; a TOML or JSON file of categories, a labels file or an id2label; a release, or a folder "
    "of labelsync or of a model.",
)
@click.option("--task-type", default="segmentation-bitmap", show_default=True, help="What is drawn.")
@click.option("--description", default="", metavar="TEXT", help="Of the dataset.")
@click.option("--public", is_flag=True, help="Let everybody see it.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be made.")
@json_option
def create(dataset: str, as_json: bool, **options: Any) -> None:
    """Make DATASET, as OWNER/NAME, on Segments.ai (the key in SEGMENTS_API_KEY, another server in SEGMENTS_API_URL).

    An owner who is not the key's user is an organization. A dataset that is there already with these categories stays
    as it is; one with others is refused.
    """
    from labelsync.release.create import create as verb

    show(verb(dataset, **options), as_json=as_json, text=_made)


@click.command(short_help="Add images, URLs or frames of a video to a dataset.")
@click.argument("dataset")
@click.argument("images", nargs=-1, required=True)
@click.option("--every", default=10, show_default=True, metavar="N", help="Of a video, one frame in so many.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="For every sample that is added; to be repeated.")
@click.option("--workers", default=8, show_default=True, help="Uploads at the same time.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what became of each image to this JSON file, also when some fail.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be added.")
@json_option
def add_images(dataset: str, images: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Add IMAGES (folders, files, URLs, text files with a URL on each line, videos) to DATASET on Segments.ai.

    An image of a folder is called by its path below the folder. What is there already is not added again, so run it
    once more to finish what was interrupted.
    """
    from labelsync.release.add_images import add_images as verb

    show(verb(dataset, images=images, **options), as_json=as_json, text=_added)


@click.command(short_help="Make a release of a dataset and wait for it.")
@click.argument("dataset")
@click.argument("name")
@click.option("--description", default="", metavar="TEXT", help="Of the release.")
@click.option("--wait", default=600.0, show_default=True, metavar="SECONDS", help="For the release to be ready.")
@json_option
def create_release(dataset: str, name: str, as_json: bool, **options: Any) -> None:
    """Make the release NAME, such as v0.2, of DATASET as its labels are now, and wait until it can be pulled."""
    from labelsync.release.create import create_release as verb

    show(verb(dataset, name=name, **options), as_json=as_json, text=_released)


def _made(record: CreateRecord) -> str:
    what = f"{record.task_type}, {_categories(len(record.categories))}, {'public' if record.public else 'private'}"
    if record.unchanged:
        return f"{record.dataset}: there already ({what}; {amount(record.samples, 'sample')}), nothing to do"
    head = f"{record.dataset}: {'would be made' if record.dry_run else 'made'} ({what})"
    names = [f"  {c.id} {c.name}" for c in record.categories] if record.dry_run else []
    return "\n".join([head, *names, *_page(record.page, dry_run=record.dry_run)])


def _categories(number: int) -> str:
    return "1 category" if number == 1 else f"{number} categories"


def _added(record: AddImagesRecord) -> str:
    n = record.outcomes
    sent = f" ({record.uploaded / 1e6:.1f} MB)" if record.uploaded else ""
    parts = [f"{amount(n['added'], 'image')} {'would be ' if record.dry_run else ''}added{sent}"]
    parts += [f"{n['there']} there already"] if n["there"] else []
    parts += [f"{n['duplicate']} there under another name"] if n["duplicate"] else []
    told = [f"  {r.name!r}: {r.reason}" for r in record.rows if r.outcome == "duplicate"]
    told += [f"  {v!r}: a video in a folder; name it to add its frames" for v in record.videos]
    more = [f"  and {len(told) - _LISTED} more"] if len(told) > _LISTED else []
    head = f"{record.dataset}: {', '.join(parts)}"
    return "\n".join([head, *told[:_LISTED], *more, *_page(record.page, dry_run=record.dry_run)])


def _page(page: str, *, dry_run: bool) -> list[str]:
    return [page] if page and not dry_run else []


def _released(record: CreateReleaseRecord) -> str:
    name = f"{record.dataset}@{record.release}"
    samples = amount(record.samples, "sample")
    if record.unchanged:
        return f"{name}: there already ({samples}, made {record.created_at}); labels drawn since then need a new name"
    return f"{name}: made ({samples})\nlabelsync pull {name}"
