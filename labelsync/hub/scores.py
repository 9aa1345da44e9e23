"""What an evaluation adds to a model card: its tables, and its results in the Hub's model-index format."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from labelsync.dataset.card import cell, code
from labelsync.errors import DatasetError, ModelError
from labelsync.hub.readme import with_metadata
from labelsync.store.files import sha256
from labelsync.store.manifest import Manifest, read_manifest

EVALUATION = "evaluation.json"

_FIGURES = {
    "mean_iou": "mean IoU",
    "mean_accuracy": "mean accuracy",
    "overall_accuracy": "overall accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_dice": "mean Dice",
    "mean_boundary_iou": "boundary IoU",
    "expected_calibration_error": "calibration error",
}
_SAFETY = {"obstacle_as_walkable": "obstacle pixels taken for walkable", "missed_obstacles": "obstacles missed"}
_CLASS = {
    "per_category_iou": "IoU",
    "per_category_boundary_iou": "boundary IoU",
    "per_category_dice": "Dice",
    "per_category_accuracy": "accuracy",
}
_USE = re.compile(r"^## Use$", re.MULTILINE)


def read_scores(folder: Path, model: Manifest) -> dict[str, Any]:
    """evaluation.json of an evaluation of that very model.

    Raises:
        DatasetNotFound: no finished evaluation.
        DatasetError: it was edited.
        ModelError: it is of another model.
    """
    manifest = read_manifest(folder, "evaluate")
    try:
        data = (folder / EVALUATION).read_bytes()
        found: dict[str, Any] = json.loads(data)
    except (OSError, ValueError):
        data, found = b"", {}
    if EVALUATION not in manifest.files or sha256(data) != manifest.files[EVALUATION].sha256:
        raise DatasetError(f"{EVALUATION} of {folder} was changed since it was written", hint="evaluate again")
    if manifest.inputs.get("model") != model.digest:
        raise ModelError(f"{folder} is the evaluation of another model", hint="evaluate the one that is pushed")
    if manifest.inputs.get("dataset") == model.inputs.get("dataset"):  # where it is published, if the card knows
        found["dataset"] = model.summary.get("dataset") or found["dataset"]
        found["dataset_revision"] = model.summary.get("revision") or found.get("dataset_revision")
    return found


def with_scores(card: str, scores: Mapping[str, Any]) -> str:
    """A model card with the scores of an evaluation: as a section before "Use", and in its metadata."""
    section = "\n\n".join(
        [
            f"## Scores on the {cell(scores['split'])} split",
            f"{scores['images']} images of {cell(scores['dataset'])}, {scores['pixels']:,} labelled pixels; "
            f"{cell(scores['resampled'])}. Dataset digest `{code(scores['dataset_digest'])}`.",
            _table(("figure", "value", "95 % interval"), _figures(scores)),
            _table(("class", "IoU", "95 % interval", *list(_CLASS.values())[1:]), _classes(scores)),
        ]
    )
    use = _USE.search(card)
    body = f"{card[: use.start()]}{section}\n\n{card[use.start() :]}" if use else f"{card.rstrip()}\n\n{section}\n"
    data = ModelCard(card, ignore_metadata_errors=True).data
    results = [*(getattr(data, "eval_results", None) or []), *_results(scores)]
    name = getattr(data, "model_name", None) or cell(scores["model"])
    return with_metadata(
        body, str(ModelCardData(model_name=name, eval_results=results).to_yaml(line_break="\n")) + "\n"
    )


def _figures(scores: Mapping[str, Any]) -> list[Sequence[str]]:
    safety = (scores.get("safety") or {}).get("figures", {})
    found = {name: scores.get(name) for name in _FIGURES} | {n: safety[n] for n in _SAFETY if n in safety}
    return [((_FIGURES | _SAFETY)[n], _number(v), _interval(scores, n)) for n, v in found.items()]


def _classes(scores: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name in scores["per_category_iou"]:
        iou, *others = (_number(scores.get(kind, {}).get(name)) for kind in _CLASS)
        rows.append((cell(name), iou, _interval(scores, f"iou.{name}"), *others))
    return rows


def _results(scores: Mapping[str, Any]) -> list[EvalResult]:
    """A result for each figure, and for the IoU of each class; what is undefined has none."""
    metrics = [(name, title, scores.get(name)) for name, title in _FIGURES.items()]
    metrics += [("per_category_iou", f"IoU of {name}", iou) for name, iou in scores["per_category_iou"].items()]
    dataset = scores["dataset"].partition("@")[0]
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name="Semantic Segmentation",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_revision=scores.get("dataset_revision") or None,
            dataset_split=scores["split"].partition("@")[0],  # the revision stands beside it
            metric_type=metric,
            metric_name=title,
            metric_value=round(value, 6),
        )
        for metric, title, value in metrics
        if value is not None
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(scores: Mapping[str, Any], name: str) -> str:
    found = scores.get("intervals", {}).get(name)
    return "" if found is None else f"{found[0]:.4f} .. {found[1]:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, align, *rows))
