"""Cutting out pets: SegFormer on the trimaps of Oxford-IIIT Pet, with a recipe of one's own.

Usage: python examples/pets.py [FOLDER [EPOCHS]]

A trimap holds 1 = pet, 2 = background, 3 = border. The model's outputs are 0, 1 and 2: what is counted from 1 in the
labels is lowered by one, and labels are resized by nearest neighbour, since between 1 and 3 there is no 2.
"""

import json
import sys
from pathlib import Path

import labelsync

given = dict(enumerate(sys.argv))
folder, epochs = Path(given.get(1, "pets")), float(given.get(2, 30))
folder.mkdir(parents=True, exist_ok=True)

PETS = "dpdl-benchmark/oxford_iiit_pet"  # splits train and test; a tenth of train becomes validation

RECIPE = """
image_size = "128"
epochs = 30
batch_size = 4
learning_rate = 6e-5
schedule = "step"  # a tenth of the learning rate after every ten epochs
step_epochs = 10.0
gamma = 0.1

[augment]
flip = 0.5
brightness = 0.1
saturation = 0.2
"""

# 1. names of the classes, numbered as the model's outputs are, and the knobs of training
names, recipe = folder / "id2label.json", folder / "recipe.toml"
names.write_text(json.dumps({"0": "pet", "1": "background", "2": "border"}))
recipe.write_text(RECIPE)

# 2. the dataset also has a ClassLabel column `label`, the breed; the one of images is found by its feature type
run = labelsync.train(PETS, out=folder / "model", model="nvidia/mit-b0", recipe=recipe, epochs=epochs, id2label=names)
scores = labelsync.evaluate(run.path, dataset=PETS, id2label=names, out=folder / "scores")
print(f"{run.steps} steps, kept step {run.best_step}; on the test split mean IoU {scores.mean_iou:.4f}")
for name, iou in scores.per_category_iou.items():
    print(f"  {name}: {'absent' if iou is None else f'{iou:.4f}'}")
seen = sorted((folder / "model/pictures").iterdir())
print(f"the same six validation images after every epoch, {seen[0].name} to {seen[-1].name}: {seen[0].parent}")
