"""labelsync.toml: what a team's rounds are made of. `init` writes it, `run` reads it."""

import difflib
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from labelsync.errors import OptionError, OutputExists, first_line
from labelsync.records.rounds import InitRecord
from labelsync.records.text import from_toml
from labelsync.store.files import write_text

NAME = "labelsync.toml"
RELEASE = "{release}"  # in a file's name: what --release says

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Segments:
    """Where the labels come from: datasets on the platform, or release files."""

    __pydantic_config__ = _STRICT
    datasets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    labelset: str = "ground-truth"


@dataclass(frozen=True)
class Convert:
    """Parameters of `convert`; None = what the earlier round has, else the verb's default."""

    __pydantic_config__ = _STRICT
    status: tuple[str, ...] = ("LABELED", "REVIEWED")
    labels: str | None = None
    group_by: str | None = None
    fractions: tuple[float, ...] | None = None
    unlabeled: str | None = None
    allow_failed: int = 0


@dataclass(frozen=True)
class Check:
    """Whether findings of `check` stop a round."""

    __pydantic_config__ = _STRICT
    strict: bool = False
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hub:
    """The repos, None = folders only; and the licences of their cards, None = what the cards say."""

    __pydantic_config__ = _STRICT
    dataset: str | None = None
    model: str | None = None
    private: bool = True
    dataset_license: str | None = None
    model_license: str | None = None


@dataclass(frozen=True)
class Train:
    """Parameters of `train`."""

    __pydantic_config__ = _STRICT
    model: str = "nvidia/mit-b0"
    recipe: str = "sidewalk"
    seed: int | None = None
    patience: int | None = None
    report_to: tuple[str, ...] = ()
    epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    image_size: str | None = None
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluate:
    """Parameters of `evaluate`."""

    __pydantic_config__ = _STRICT
    split: str = "test"
    batch_size: int = 8
    by: tuple[str, ...] = ()
    groups: str | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: str | None = None


@dataclass(frozen=True)
class Gates:
    """What must hold before a model goes into production."""

    __pydantic_config__ = _STRICT
    require: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a round leaves for people to read."""

    __pydantic_config__ = _STRICT
    summary: bool = True
    html: bool = True


@dataclass(frozen=True)
class Config:
    """A whole labelsync.toml. `path` is the file; paths in it are relative to its folder."""

    __pydantic_config__ = _STRICT
    segments: Segments
    convert: Convert = field(default_factory=Convert)
    check: Check = field(default_factory=Check)
    hub: Hub = field(default_factory=Hub)
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    gates: Gates = field(default_factory=Gates)
    report: Report = field(default_factory=Report)
    path: Path = Path(NAME)

    @property
    def folder(self) -> Path:
        """Where the file lies, and the rounds."""
        return self.path.resolve().parent

    def located(self, name: str) -> str:
        """A path of the file as the program must open it; a URL, a Hub id or a built-in name as it is."""
        if "://" in name or Path(name).is_absolute():
            return name
        return str(self.folder / name)

    def located_if_there(self, name: str) -> str:
        """As `located`, for a value that may be a name as well as a path."""
        return self.located(name) if (self.folder / name).exists() else name


def read_config(path: str | Path) -> Config:
    """The configuration in a file.

    Raises:
        OptionError: no such file, not TOML, an unknown section or key, or a value of another type.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    try:
        data = from_toml(path.read_bytes())
    except FileNotFoundError:
        raise OptionError(f"no {path}", hint="write one with `labelsync init`, or name it") from None
    except (OSError, ValueError) as e:
        raise OptionError(f"{path} cannot be read: {first_line(e)}", hint="mend that line") from None
    if "path" in data:
        raise OptionError(f"{path}: there is no section 'path'", hint=f"sections: {', '.join(_keys(Config))}")
    try:
        config = TypeAdapter(Config).validate_python(data | {"path": path})
    except ValidationError as e:
        raise _unusable(path, e.errors()[0]) from None
    _require_source(config)
    return config


def init(*, out: str | Path = Path(NAME), dataset: str = "acme/sidewalk", overwrite: bool = False) -> InitRecord:
    """Write a labelsync.toml with every key and what it means.

    Args:
        out: the file to write.
        dataset: the dataset on Segments.ai, "owner/name".
        overwrite: replace a file that is there.

    Raises:
        OutputExists: there is one.
        OptionError: `dataset` is no "owner/name".
    """
    out = Path(out)
    if dataset.count("/") != 1 or not all(dataset.split("/")) or '"' in dataset or "\\" in dataset:
        raise OptionError(f"{dataset!r} names no dataset", hint="write OWNER/NAME as on Segments.ai")
    if out.exists() and not overwrite:
        raise OutputExists(f"{out} exists", hint="edit it, or pass --overwrite")
    text = (resources.files("labelsync.pipeline") / "templates" / NAME).read_text()
    write_text(out, text.format(dataset=dataset))
    return InitRecord(path=str(out), dataset=dataset)


def _require_source(config: Config) -> None:
    source = config.segments
    if bool(source.datasets) == bool(source.files):
        what = "both datasets and files" if source.datasets else "neither datasets nor files"
        raise OptionError(f"{config.path}: [segments] has {what}", hint='write datasets = ["OWNER/NAME"]')
    for name in source.datasets:
        if name.count("/") != 1 or "@" in name:
            raise OptionError(
                f"{config.path}: {name!r} in segments.datasets names no dataset",
                hint="write OWNER/NAME; the release is chosen with --release",
            )


def _keys(section: type) -> list[str]:
    return [f.name for f in fields(section) if f.name != "path"]


def _unusable(path: Path, error: Any) -> OptionError:
    """The error of one key, with the key that was meant where one is near."""
    at = [str(part) for part in error["loc"]]
    name = ".".join(at)
    if error["type"] == "unexpected_keyword_argument" or error["type"] == "extra_forbidden":
        known = _keys(Config)
        if len(at) > 1:
            known = _keys({f.name: f.type for f in fields(Config)}[at[0]])  # type: ignore[arg-type]
        near = difflib.get_close_matches(at[-1], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        return OptionError(f"{path}: there is no {name!r}", hint=hint)
    return OptionError(f"{path}: {name}: {error['msg'][0].lower()}{error['msg'][1:]}", hint="mend that line")
