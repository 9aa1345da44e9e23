"""The loop from an empty account to the second round: a dataset, its images, labels, a release, a round; and again.

Usage: python examples/loop.py OWNER/NAME [FOLDER]

It needs SEGMENTS_API_KEY; OWNER is the key's user or an organization. The recordings are drawn, and where people would
label, a program puts their drawn labels on Segments.ai. Two epochs from random weights: the scores are no good.
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
server = os.environ.get("SEGMENTS_API_URL", "https://api.segments.ai/")


def people_label(names: set[str]) -> None:
    """What annotators do in the browser."""
    entries = json.loads((drawn / "release.json").read_text())["dataset"]["samples"]
    labels = {e["name"]: e["labels"]["ground-truth"] for e in entries if e["name"] in names}
    with SegmentsClient(os.environ["SEGMENTS_API_KEY"], server) as client:
        for sample in client.get_samples(dataset):
            if label := labels.get(sample.name):
                attributes = label["attributes"]
                with (drawn / attributes["segmentation_bitmap"]["url"]).open("rb") as bitmap:
                    attributes["segmentation_bitmap"]["url"] = client.upload_asset(bitmap, "label.png").url
                client.add_label(sample.uuid, "ground-truth", attributes, label_status="LABELED")


SegformerConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, decoder_hidden_size=32).save_pretrained(folder / "small")
(folder / "labelsync.toml").write_text(f"""
segments = {{ datasets = ["{dataset}"] }}
convert = {{ allow_failed = 2 }}
train = {{ model = "small", recipe = "demo", epochs = 2 }}
""")

made = labelsync.create(dataset, categories="sidewalk")
print(f"{dataset}: {len(made.categories)} categories")
for release, count in (("v0.1", 30), ("v0.2", 40)):
    added = labelsync.add_images(dataset, images=images[:count], metadata=["site=drawn"])
    people_label({row.name for row in added.rows if row.outcome == "added"})
    labelsync.create_release(dataset, name=release)
    done = labelsync.run(folder / "labelsync.toml")
    print(f"{done.name}: {added.outcomes['added']} images added; mean IoU {done.mean_iou:.3f}")
print(f"in production: {labelsync.status(folder / 'labelsync.toml').production or 'no model'}")
