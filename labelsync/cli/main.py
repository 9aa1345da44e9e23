"""The click group: one short command per verb, in the order of a labeling round."""

import click

from labelsync.cli.boundary import Group
from labelsync.cli.cache import cache
from labelsync.cli.check import check
from labelsync.cli.compare import compare
from labelsync.cli.convert import convert
from labelsync.cli.create import add_images, create, create_release
from labelsync.cli.demo import demo
from labelsync.cli.diff import diff
from labelsync.cli.evaluate import evaluate
from labelsync.cli.export import export
from labelsync.cli.predict import predict
from labelsync.cli.prelabel import prelabel
from labelsync.cli.pull import pull
from labelsync.cli.push import push
from labelsync.cli.report import report
from labelsync.cli.rounds import init, promote, rollback, run, status
from labelsync.cli.select import select
from labelsync.cli.show_recipe import show_recipe
from labelsync.cli.train import train
from labelsync.cli.verify import verify


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="labelsync")
def main() -> None:
    """From a Segments.ai labeling round to a published dataset and a fine-tuned, evaluated SegFormer.

    Start with `labelsync demo`: the whole loop on drawn scenes, offline, in about three minutes.
    """


for command in (
    *(create, add_images, create_release),
    *(pull, diff, convert, check, push, verify, show_recipe, train, evaluate, compare, report),
    *(predict, export, select, prelabel),
    *(init, run, status, promote, rollback),
    *(cache, demo),
):
    main.add_command(command)
