"""The loop closed: images, labels, a release, a round; prelabels of its model, corrections, and a second round.

Usage: python examples/loop.py OWNER/NAME [FOLDER]

It needs SEGMENTS_API_KEY; OWNER is the key's user or an organization. The recordings are drawn, and what people do in
the browser a program does, with the labels that belong to them. Two epochs from random weights: the scores are no good.
"""

import json
import os
import sys
from pathlib import Path

from segments import SegmentsClient
from transformers import SegformerConfig

import labelsync
from labelsync.sidewalk.scenes import draw_release

dataset = sys.argv[1]
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "example-loop")
drawn = draw_release(folder / "drawn", scenes=40).parent
images = sorted((drawn / "images").iterdir())
entries = json.loads((drawn / "release.json").read_text())["dataset"]["samples"]
truth = {e["name"]: label["attributes"] for e in entries if (label := e["labels"]["ground-truth"])}
server = os.environ.get("SEGMENTS_API_URL", "https://api.segments.ai/")


def people_label(status: str, *, accept: int = 0) -> None:
    """What annotators do with the samples of a status: accept the last few prelabels as they are, and draw the rest."""
    with SegmentsClient(os.environ["SEGMENTS_API_KEY"], server) as client:
        for number, sample in enumerate(client.get_samples(dataset, label_status=status, direction="desc")):
            if number < accept:
                client.update_label(sample.uuid, "ground-truth", label_status="LABELED")
            elif attributes := truth.get(sample.name):  # a few are never looked at
                with (drawn / attributes["segmentation_bitmap"]["url"]).open("rb") as bitmap:
                    attributes["segmentation_bitmap"]["url"] = client.upload_asset(bitmap, "label.png").url
                client.add_label(sample.uuid, "ground-truth", attributes, label_status="LABELED")


SegformerConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, decoder_hidden_size=32).save_pretrained(folder / "small")
(folder / "labelsync.toml").write_text(f"""
segments = {{ datasets = ["{dataset}"] }}
convert = {{ allow_failed = 2 }}
train = {{ model = "small", recipe = "demo", epochs = 2 }}
""")

labelsync.create(dataset, categories="sidewalk")
labelsync.add_images(dataset, images=images[:30])
people_label("UNLABELED")
labelsync.create_release(dataset, name="v0.1")
first = labelsync.run(folder / "labelsync.toml")
labelsync.add_images(dataset, images=images)
drafts = labelsync.prelabel(f"{first.path}/model", dataset=dataset, out=folder / "prelabels")
print(f"{drafts.outcomes['prelabeled']} samples prelabeled by the model of {first.name}")
people_label("PRELABELED", accept=3)
labelsync.create_release(dataset, name="v0.2")
second = labelsync.run(folder / "labelsync.toml")
scores = f"mean IoU {second.mean_iou:.3f}, that of {first.name} {second.baseline_mean_iou:.3f}"
print(f"model of {second.name}: {scores} on the same test images")
