"""The model card: README.md of a run folder, with metadata that the Hub reads, and the picture in it."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from labelsync.model.loaded import LoadedModel
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import encode_png
from labelsync.records.release import Row
from labelsync.training.knobs import Recipe
from labelsync.training.pictures import side_by_side
from labelsync.training.recipe import settings

OVERLAY = "overlay.png"

_SCORES = ("mean_iou", "mean_accuracy", "overall_accuracy")
_CLASS = ("iou", "accuracy")


def model_card(
    loaded: LoadedModel,
    recipe: Recipe,
    *,
    dataset_digest: str,
    scores: Mapping[str, float],
    summary: Mapping[str, Any],
    seed: int,
) -> str:
    """Text of README.md.

    Args:
        scores: of the validation split, as the Trainer logs them, without prefix.
        summary: as in the run's manifest; its "model" and "dataset" are a Hub id or a folder's own name.
    """
    kind = str(loaded.model.config.model_type)
    classes = [
        {"id": i, "name": n, "iou": scores[f"iou_{n}"], "accuracy": scores[f"accuracy_{n}"]}
        for i, n in enumerate(loaded.labels.names, 1)
    ]
    title = f"{kind} on {summary['dataset']}"
    # Markdown: what people chose goes through `cell`
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    template = resources.files("labelsync.training").joinpath("templates/README.md.jinja").read_text()
    return environment.from_string(template).render(
        metadata=_metadata(summary, scores, loaded.labels.names, kind=kind, title=title),
        title=title,
        classes=classes,
        scores=scores,
        dataset_digest=dataset_digest,
        size_hw=loaded.size_hw,
        recipe=_toml(settings(recipe)),
        overlay=OVERLAY,
        seed=seed,
        percent=percent,
        cell=cell,
        link=link,
        **summary,
    )


def overlay_picture(loaded: LoadedModel, row: Row) -> bytes:
    """PNG of an image, its label and what the model says of it, with a legend of the classes in them."""
    return encode_png(side_by_side(Segmenter(loaded), row, loaded.labels, titles=("image", "label", "prediction")))


def percent(value: float) -> str:
    """0.1234, or "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def cell(text: str) -> str:
    """A name that people chose, harmless inside a Markdown table."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())


def link(name: str, kind: str = "") -> str:
    """A Hub id as a link; a folder's name as it is. `kind` is "datasets/" or "" for a model."""
    repo, _, revision = name.partition("@")
    if "/" not in repo:
        return cell(name)
    shown = f"{repo} ({revision})" if revision else repo
    return f"[{cell(shown)}](https://huggingface.co/{kind}{repo})"


def _toml(values: Mapping[str, Any], table: str = "") -> str:
    """Plain settings as a recipe file has them."""
    lines = [f"[{table}]"] if table else []
    lines += [f"{k} = {json.dumps(v)}" for k, v in values.items() if not isinstance(v, Mapping)]
    parts = ["\n".join(lines)]
    parts += [_toml(v, k) for k, v in values.items() if isinstance(v, Mapping)]
    return "\n\n".join(parts)


def _metadata(
    summary: Mapping[str, Any], scores: Mapping[str, float], names: Sequence[str], *, kind: str, title: str
) -> str:
    """The YAML head, with the scores below as a model-index. No licence: that is for the owner of the data to say."""
    start = summary["model"].partition("@")[0]
    dataset = summary["dataset"].partition("@")[0]
    metrics = [(name, name.replace("_", " "), scores[name]) for name in _SCORES]
    metrics += [
        (f"per_category_{kind}", f"{kind} of {name}", scores[f"{kind}_{name}"]) for kind in _CLASS for name in names
    ]
    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Semantic Segmentation",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_revision=summary["revision"] or None,
            dataset_split="validation",
            metric_type=metric,
            metric_name=title,
            metric_value=round(value, 6),
        )
        for metric, title, value in metrics
        if not math.isnan(value)
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["vision", "image-segmentation", "semantic-segmentation", kind, "labelsync"],
        base_model=start if "/" in start else None,
        datasets=[dataset] if "/" in dataset else None,
        metrics=["mean_iou"],
        model_name=title,
        eval_results=results or None,
    )
    return str(data.to_yaml(line_break="\n")).strip()
