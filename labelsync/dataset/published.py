"""`--split test@v1.0`: a split as it was published then, of a dataset that has had rounds since."""

from pathlib import Path

from labelsync.dataset.source import HUB_ID
from labelsync.errors import DatasetNotFound, OptionError

_HOW = "write test, or test@v1.0 for the split as it was at that tag"
_ROUNDS, _DATASET = "rounds", "dataset"  # rounds/<name>/dataset, as `run` leaves them


def split_at(dataset: str | Path, split: str) -> tuple[str | Path, str]:
    """The dataset and the split there that "split[@revision]" of a dataset means.

    A test split grows from round to round and its labels are corrected, so the scores of two rounds are not of the same
    images. What was published first can always be scored again: no sample ever changes its split, so no later model was
    trained on it.

    Args:
        dataset: a folder, or "user/name[@revision]" on the Hub.
        split: a split of it; or "test@v1.0", that of the Hub repo at a tag, branch or commit. Of the dataset folder of
            a round, rounds/<name>/dataset, that of the round v1.0 beside it.

    Raises:
        OptionError: nothing before or after the @, or a folder that is of no round.
        DatasetNotFound: there is no such round.
    """
    name, at, revision = split.partition("@")
    if not at:
        return dataset, split
    if not name or not revision:
        raise OptionError(f"--split {split}: there is no {'revision' if name else 'split'} in it", hint=_HOW)
    folder = Path(dataset).expanduser()
    hub_id = HUB_ID.fullmatch(dataset) if isinstance(dataset, str) else None
    if hub_id is not None and not folder.exists():
        return f"{hub_id['repo']}@{revision}", name
    return _of_round(folder, revision, split), name


def _of_round(folder: Path, revision: str, split: str) -> Path:
    whole = folder.resolve()
    if whole.name != _DATASET or whole.parents[1].name != _ROUNDS or Path(revision).name != revision:
        raise OptionError(
            f"--split {split}: {folder} is a folder, and knows no {revision}",
            hint="name the dataset as it is published, user/name, or a folder rounds/<name>/dataset of `labelsync run`",
        )
    there = whole.parents[1] / revision / _DATASET
    if not there.is_dir():
        raise DatasetNotFound(
            f"--split {split}: there is no round {revision} beside {whole.parent}",
            hint="name the dataset as it is published, user/name",
        )
    return there
