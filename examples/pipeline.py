"""A labeling round as a program: release in; dataset, model, scores and predictions out.

Usage: python examples/pipeline.py [FOLDER]

Runs as it stands, offline, on a drawn release and for two epochs, so its scores are no good: `labelsync demo` trains
for longer. For a real round leave out the first two steps, and pull "acme/sidewalk@v1.0".
"""

import sys
from pathlib import Path

from transformers import SegformerConfig

import labelsync
from labelsync.sidewalk.scenes import draw_release

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example")

# 1. what people labelled: here drawn, a release file with images and instance bitmaps beside it
release_file = draw_release(folder / "drawn", scenes=40)

# 2. where to start: a folder with a config alone is a model with random weights; the default is "nvidia/mit-b0"
SegformerConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=32).save_pretrained(
    folder / "small"
)

# 3. the round
release = labelsync.pull(release_file, out=folder / "release", allow_failed=2)
dataset = labelsync.convert(release.path, out=folder / "dataset", group_by="metadata.sequence", allow_failed=2)
run = labelsync.train(dataset.path, out=folder / "model", model=folder / "small", recipe="demo", epochs=2)
scores = labelsync.evaluate(run.path, dataset=dataset.path, out=folder / "evaluation")
predictions = labelsync.predict(run.path, images=[f"{release.path}/images"], out=folder / "predictions")

# 4. every step is a folder on disk and a record in the hand
print(f"{release.samples} samples: {release.outcomes}")
print(f"{dataset.num_labels} classes, rows per split: {dataset.splits}")
print(f"{run.parameters:,} parameters, {run.steps} steps, kept step {run.best_step}")
for name, iou in scores.per_category_iou.items():
    print(f"  {name:22} {'absent' if iou is None else f'{iou:.3f}'}")
print(f"mean IoU {scores.mean_iou:.3f}; {predictions.images} overlays in {predictions.path}/overlays")
