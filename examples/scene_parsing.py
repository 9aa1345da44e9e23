"""Fine-tuning on SceneParse150 from its Hub id, as the semantic segmentation guides of transformers do it.

Usage: python examples/scene_parsing.py [FOLDER [EPOCHS [IMAGE_SIZE]]]

The dataset was published with a loading script, which nothing runs any more; it is read from the Parquet files that
the Hub made of it. Its labels hold 0 for "other" and 1..150 for the classes, whose names are numbered 0..149: a label
is lowered by one and its 0 ignored, which is what `do_reduce_labels` means.
"""

import json
import sys
from pathlib import Path

from PIL import Image
from transformers import AutoImageProcessor, pipeline

import labelsync
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic

given = dict(enumerate(sys.argv))
folder, epochs, image_size = Path(given.get(1, "scene_parsing")), float(given.get(2, 1)), given.get(3, "512")

SCENES = "zhoubolei/scene_parse_150"
CHOICES = {"config": "scene_parsing", "id2label": "huggingface/label-files:ade20k-id2label.json"}
MODELS = ("nvidia/mit-b0", "apple/deeplabv3-mobilevit-small", "openmmlab/upernet-convnext-tiny")

# 1. rows are read when they are asked for; a row is the bytes of an image and of its label
dataset = labelsync.load(SCENES, **CHOICES)
row = dataset.splits["validation"][0]
image, label = decode_image(row.image), decode_semantic(row.label)
print(f"{row.name}: image {image.shape}, label {label.shape}, {dataset.labels.num_labels} classes")

# 2. any architecture; colour jitter, flips and random crops on the fly, the best model by mean IoU is kept
for model in MODELS:
    out = folder / model.partition("/")[2]
    settings = {"epochs": epochs, "image_size": image_size, "batch_size": 2, "learning_rate": 6e-5}
    run = labelsync.train(SCENES, out=out, model=model, **settings, **CHOICES)
    scores = labelsync.evaluate(run.path, dataset=SCENES, split="validation", out=f"{out}-scores", **CHOICES)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])  # the last evaluation
    print(f"{model}: {run.parameters:,} parameters, mean IoU {scores.mean_iou:.4f}")
    for name in ("wall", "building", "sky"):
        print(f"  {name}: IoU {last[f'eval_iou_{name}']}, accuracy {last[f'eval_accuracy_{name}']}")

# 3. the model is one of transformers: its processor lowers labels by itself, and its pipeline names the parts
processor = AutoImageProcessor.from_pretrained(run.path)
lowered = processor([image], [label], return_tensors="np")["labels"][0]
print(
    f"do_reduce_labels {processor.do_reduce_labels}: {label.min()}..{label.max()} to {lowered.min()}..{lowered.max()}"
)
parts = pipeline("image-segmentation", run.path)(Image.fromarray(image))
print("in the image:", ", ".join(part["label"] for part in parts))
