"""Which release of which dataset a round is made of."""

from dataclasses import dataclass
from pathlib import PurePath

from labelsync.errors import OptionError
from labelsync.pipeline.config import RELEASE, Config


@dataclass(frozen=True)
class Sources:
    """`pulled` = what `pull` is given, in the order of the configuration; `releases` = dataset or file -> release."""

    pulled: tuple[str, ...]
    releases: dict[str, str]


def find_sources(config: Config, release: str | None) -> Sources:
    """The releases of a round: those called `release`, or the newest of each dataset.

    Raises:
        OptionError: a release file with a place for the name, and no name.
        ReleaseNotFound, AuthError, ServiceError: the platform does not tell.
    """
    if config.segments.files:
        return _files(config, release)
    names = {dataset: release or _newest(dataset) for dataset in config.segments.datasets}
    return Sources(tuple(f"{dataset}@{name}" for dataset, name in names.items()), names)


def _files(config: Config, release: str | None) -> Sources:
    pulled, names = [], {}
    for file in config.segments.files:
        if release is None and RELEASE in file:
            raise OptionError(f"{file} needs the name of a release", hint="pass --release NAME")
        where = config.located(file.replace(RELEASE, release or ""))
        pulled.append(where)
        names[file] = release or PurePath(where).stem
    return Sources(tuple(pulled), names)


def _newest(dataset: str) -> str:
    from labelsync.release.client import newest_release

    return newest_release(dataset)
