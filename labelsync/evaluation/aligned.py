"""A model that answers in the classes of a dataset, matched by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelsync.dataset.load import LabeledDataset
from labelsync.errors import ModelError, OptionError
from labelsync.model.load import load_model
from labelsync.model.segmenter import Segmenter
from labelsync.model.ways import Ways


def segmenter_for(
    model: str | Path,
    data: LabeledDataset,
    *,
    align: bool,
    renamed: Sequence[str],
    ways: Ways,
    device: str | None,
    batch_size: int,
) -> Segmenter:
    """The model, answering in the dataset's classes. Arguments as for `evaluate`.

    Raises:
        ModelNotFound, ModelError: no model, or it and the dataset do not have the same classes.
        OptionError: a rename that says nothing, or a scale that the model cannot take.
    """
    loaded = load_model(model, device=device)
    new_names = _renames(renamed, loaded.names, data.labels.names)
    loaded = replace(loaded, names=tuple(new_names.get(name, name) for name in loaded.names))
    ours = [new_names.get(name, name) for name in loaded.labels.names]
    _require_classes(ours, data.labels.names, align=align, names=(loaded.source, data.source))
    return Segmenter(
        loaded,
        batch_size=batch_size,
        labels=data.labels,
        flip=ways.flip,
        scales=ways.scales,
        window=ways.window_text,
    )


def _renames(renamed: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """The model's name of a class -> the dataset's. Raises OptionError for a name that one of them does not have."""
    pairs = [text.partition("=") for text in renamed]
    for (old, equals, new), text in zip(pairs, renamed, strict=True):
        if not equals or old not in ours or new not in theirs:
            raise OptionError(
                f"--renamed {text!r} says nothing here",
                hint="write OLD=NEW, a class of the model and what the dataset calls it",
            )
    return {old: new for old, _, new in pairs}


def _require_classes(model: Sequence[str], dataset: Sequence[str], *, align: bool, names: tuple[str, str]) -> None:
    """Raises ModelError unless both have the same class names, in any order, or `align` is set and some are shared."""
    ours, theirs = set(model), set(dataset)
    if ours == theirs or (align and ours & theirs):
        return
    sides = [
        f"only in {name}: {', '.join(sorted(only)) or 'nothing'}"
        for name, only in zip(names, (ours - theirs, theirs - ours), strict=True)
    ]
    raise ModelError(
        f"{names[0]} and {names[1]} do not have the same classes ({'; '.join(_shortened(s) for s in sides)})",
        hint="none is shared: it is a model for something else"
        if not ours & theirs
        else "pass --align to score the shared ones by name",
        details=sides,
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else text[:120] + " ..."
