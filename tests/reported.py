"""What the tests of reports report on: a tiny run on a drawn dataset in which whatever people may name is hostile."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labelsync
from labelsync.dataset.load import load
from tests.models import loud_segformer, tiny_segformer
from tests.releases import draw_release, edit_release

ATTACK = "<script>alert('{}')</script>"
CLASSES = (ATTACK.format("class"), "a \"quoted' & $x^2$ class", "歩道 &lt;b&gt;")
SAMPLE = "<img src=x onerror=alert('sample')>.jpg"
WEATHER = ("sun", ATTACK.format("slice"))
GROUPS = (
    f"walkable = [{json.dumps(CLASSES[1])}]\nobstacle = [{json.dumps(CLASSES[0])}]\nroad = [{json.dumps(CLASSES[2])}]\n"
)


class Reported:
    """A dataset, a run on it with pictures, its evaluation, and that of another model."""

    def __init__(self, root: Path) -> None:
        self.root = root
        release = draw_release(root / "drawn", samples=24, groups=24)
        edit_release(release, hostile)
        labelsync.pull(release, out=root / "release")
        self.data = root / "data"
        labelsync.convert(root / "release", out=self.data, fractions=(0.4, 0.2, 0.4), workers=1)
        steps = [f"{what}={n}" for what, n in (("max_steps", 4), ("eval_steps", 2), ("save_steps", 2))]
        strategies = ["eval_strategy=steps", "save_strategy=steps", "logging_steps=1"]
        labels = load(self.data).labels
        self.run = root / "run"
        labelsync.train(
            self.data, out=self.run, model=tiny_segformer(root / "tiny", labels), recipe="demo", image_size="32",
            batch_size=2, pictures=2, set=steps + strategies,
        )  # fmt: skip
        (root / "groups.toml").write_text(GROUPS)
        self.evaluation = self.evaluated(self.run, "new")
        other = loud_segformer(root / "other", labels, seed=1)
        self.baseline = self.evaluated(other, "old")

    def evaluated(self, model: Path, name: str) -> Path:
        """The evaluation of a model."""
        out = self.root / name
        by = ["metadata.weather"]
        labelsync.evaluate(model, dataset=self.data, out=out, device="cpu", by=by, groups=self.root / "groups.toml")
        return out

    def all(self) -> dict[str, Any]:
        """What makes every section of a report."""
        export = self.root / "export.json"
        export.write_text(json.dumps({"latency": {"onnx": {"p50_ms": 12.5, "p95_ms": 20.25}}, "device": "cpu"}))
        gates = ["mean_iou >= 0.0", "delta.mean_iou >= -1"]
        return {"baseline": self.baseline, "run": self.run, "dataset": self.data, "export": export, "gate": gates}


def hostile(document: dict[str, Any]) -> None:
    """Names as nobody should choose them."""
    dataset = document["dataset"]
    for category, name in zip(dataset["task_attributes"]["categories"], CLASSES, strict=True):
        category["name"] = name
    for i, sample in enumerate(dataset["samples"]):
        sample["name"] = f"{i}{SAMPLE}"
        sample["metadata"]["weather"] = WEATHER[i % 2]


Cli = Callable[..., Any]
