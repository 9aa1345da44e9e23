"""The click group: one short command per verb, in the order of a labeling round."""

import click

from labelsync.cli.boundary import Commands, Group

# Command -> the module of `labelsync.cli` that has it, imported when the command is asked for.
COMMANDS = Commands(
    {
        "create": "create",
        "add-images": "create",
        "create-release": "create",
        "pull": "pull",
        "diff": "diff",
        "convert": "convert",
        "check": "check",
        "push": "push",
        "verify": "verify",
        "show-recipe": "show_recipe",
        "train": "train",
        "evaluate": "evaluate",
        "compare": "compare",
        "report": "report",
        "predict": "predict",
        "export": "export",
        "select": "select",
        "prelabel": "prelabel",
        "init": "rounds",
        "run": "rounds",
        "status": "rounds",
        "promote": "rounds",
        "rollback": "rounds",
        "cache": "cache",
        "demo": "demo",
    }
)


@click.group(
    cls=Group, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="labelsync")
def main() -> None:
    """From a Segments.ai labeling round to a published dataset and a fine-tuned, evaluated SegFormer.

    Start with `labelsync demo`: the whole loop on drawn scenes, offline, in about three minutes.
    """
