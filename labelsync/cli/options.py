"""Options that several commands share, and how records read for people."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.decorators import FC

from labelsync.records.release import Ledger
from labelsync.records.text import from_json


class CommaList(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic in newer clicks only
    """Values separated by commas -> a tuple."""

    def __init__(self, name: str, value: type[str] | type[float]) -> None:
        self.name = name
        self._value = value

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The tuple; a default is one already."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._value(part.strip()) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers like 80,10,10", param, ctx)


class FolderOrUrl(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A path -> Path; a URL stays the text it is: a path would make one slash of two."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:  # noqa: ARG002
        """The path or URL."""
        return value if "://" in str(value) else Path(value)


_MAY_BE_EMPTY = ("description", "message", "tag")


def refuse_empty(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    """One rule for every flag and argument: what is given is not empty, but for texts that people write, and no tag.

    It is what a shell makes of "$RUN" where RUN is not set, and a path would make the current folder of it.

    Raises:
        click.UsageError: such a value, or args that the command cannot take at all.
    """
    given, _, _ = command.make_parser(ctx).parse_args(list(args))
    for param in command.params:
        value = given.get(param.name or "")
        if "" in (value if isinstance(value, list | tuple) else (value,)) and param.name not in _MAY_BE_EMPTY:
            raise click.BadParameter("the value is empty", ctx=ctx, param=param)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout, nothing else.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what lies at the output path.")
device_option = click.option("--device", help="cuda, cuda:1, cpu, ...; by default a GPU if there is one.")
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Images run through the model at once.",
)

_WAYS = (
    click.option("--flip", is_flag=True, help="Look at each image mirrored as well, and average."),
    click.option(
        "--scales",
        type=CommaList("a,b,..", float),
        default=(1.0,),
        metavar="S,S,..",
        help="Sizes of the model's input, as multiples of its own, that are averaged: 0.75,1,1.25.  [default: 1]",
    ),
    click.option(
        "--window",
        metavar="HxW",
        help="Put windows of so many pixels of the image (512, or 384x512) into the model, instead of the whole image.",
    ),
)


def ways_options(command: FC) -> FC:
    """How a model looks at images."""
    for option in reversed(_WAYS):
        command = option(command)
    return command


def ways_text(*, flip: bool, scales: Sequence[float], window: str | None) -> str:
    """How images were looked at, " (mirrored too, windows of 512x512)"; "" where it was as always."""
    parts = ["mirrored too"] if flip else []
    parts += [f"inputs of {', '.join(f'{s:g}' for s in scales)} times the model's"] if tuple(scales) != (1.0,) else []
    parts += [f"windows of {window}"] if window else []
    return f" ({'; '.join(parts)})" if parts else ""


gate_option = click.option(
    "--gate",
    multiple=True,
    metavar="GATE",
    help='A threshold as "mean_iou >= 0.55" or "iou.CLASS > 0.4", to be repeated; exit code 3 if one is not met.',
)
gates_option = click.option(
    "--gates",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='A TOML file with more gates: gates = ["mean_iou >= 0.55", ..].',
)
resamples_option = click.option(
    "--resamples",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Draws of the bootstrap behind the 95 % intervals; its seed is always 0.",
)

status_option = click.option(
    "--status",
    type=CommaList("a,b", str),
    default=("LABELED", "REVIEWED"),
    help="Label statuses to take.  [default: LABELED,REVIEWED]",
)


# What `train` and `show-recipe` put in place of a recipe's own values.
_RECIPE_OPTIONS = (
    click.option("--epochs", type=float, help="Passes over the train split; by default the recipe's."),
    click.option("--batch-size", type=int, help="Images per step and process; by default the recipe's."),
    click.option("--learning-rate", type=float, help="The highest learning rate; by default the recipe's."),
    click.option("--image-size", help="512, or 384x512 for height x width; by default the recipe's."),
    click.option("--patience", type=int, help="End after so many evaluations that find nothing better; 0 = never."),
    click.option("--seed", type=int, help="Of head, order, augmentation and dropout; by default the recipe's."),
)


def recipe_options(command: FC) -> FC:
    """The options that replace values of a recipe, in their order."""
    for option in reversed(_RECIPE_OPTIONS):
        command = option(command)
    return command


_FOREIGN = (
    click.option("--image-column", metavar="NAME", help="Of a foreign dataset: the column, or folder, of images."),
    click.option("--label-column", metavar="NAME", help="Of a foreign dataset: the column, or folder, of labels."),
    click.option(
        "--id2label",
        metavar="FILE|REPO",
        help="Class names of a foreign dataset: a JSON file, user/name:FILE on the Hub, or a column of class names.",
    ),
    click.option("--keep-zero", is_flag=True, help="0 in a foreign dataset's labels is a class, and 255 unlabeled."),
    click.option("--config", metavar="NAME", help="Which configuration (subset) of a foreign dataset."),
)


def foreign_options(command: FC) -> FC:
    """What a dataset that labelsync did not make may leave open."""
    for option in reversed(_FOREIGN):
        command = option(command)
    return command


def out_option(what: str, *, required: bool = True, default: Path | None = None) -> Callable[[FC], FC]:
    """`--out PATH`, the folder or file a verb leaves."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=required,
        default=default,
        show_default=bool(default),
        help=what,
    )


def counts(values: Mapping[str, int]) -> str:
    """ "3 converted, 1 failed" from a mapping; zeros are left out."""
    return ", ".join(f"{n} {name}" for name, n in values.items() if n) or "none"


def amount(number: int, noun: str) -> str:
    """ "1 shard", "2 shards"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def lost(folder: str, ledger: bytes | None = None) -> list[str]:
    """A line for each sample that failed, as the ledger in `folder`, or with the content `ledger`, has it."""
    data = (Path(folder) / "ledger.json").read_bytes() if ledger is None else ledger
    return [f"  {row.name!r} failed: {row.reason}" for row in from_json(Ledger, data, where="ledger.json").failed]


def percent(value: float | None) -> str:
    """A score as 0.1234, or "-" where the class is absent."""
    return "-" if value is None else f"{value:.4f}"


def interval(found: tuple[float, float] | None) -> str:
    """A 95 % interval as "0.1234 .. 0.5678", "" where there is none."""
    return "" if found is None else f"{found[0]:.4f} .. {found[1]:.4f}"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as aligned columns, the first left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
