"""labelsync: from a Segments.ai labeling round to a published dataset and a fine-tuned, evaluated SegFormer.

The public names are loaded when they are first used, so `import labelsync` costs no torch, transformers or datasets.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "LabelMap": "labelsync.labels",
    "LabelsyncError": "labelsync.errors",
    "create": "labelsync.release.create",
    "add_images": "labelsync.release.add_images",
    "create_release": "labelsync.release.create",
    "pull": "labelsync.release.pull",
    "diff": "labelsync.release.diff",
    "cache": "labelsync.release.tidy",
    "convert": "labelsync.dataset.convert",
    "load": "labelsync.dataset.load",
    "check": "labelsync.quality.check",
    "push": "labelsync.hub.push",
    "verify": "labelsync.hub.verify",
    "show_recipe": "labelsync.training.show",
    "train": "labelsync.training.finetune",
    "evaluate": "labelsync.evaluation.evaluate",
    "compare": "labelsync.evaluation.compare",
    "report": "labelsync.evaluation.report",
    "MeanIoU": "labelsync.evaluation.metric",
    "Segmenter": "labelsync.model.segmenter",
    "predict": "labelsync.deploy.predict",
    "export": "labelsync.deploy.export",
    "select": "labelsync.deploy.select",
    "prelabel": "labelsync.deploy.prelabel",
    "init": "labelsync.pipeline.config",
    "run": "labelsync.pipeline.run",
    "status": "labelsync.pipeline.status",
    "promote": "labelsync.pipeline.production",
    "rollback": "labelsync.pipeline.production",
    "demo": "labelsync.pipeline.demo",
    # for code that was written for the Segments.ai SDK; no commands
    "release2dataset": "labelsync.hub.dropin",
    "get_semantic_bitmap": "labelsync.pixels.dropin",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605 - one table is the whole public surface


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'labelsync' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
