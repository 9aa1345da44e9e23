"""A robot's loop: camera frames in, "may I go on?" out.

After pipeline.py: python examples/robot.py example/model example/release/images
"""

import sys
import time
from pathlib import Path

import numpy as np

import labelsync

WALKABLE = {"flat-sidewalk", "flat-crosswalk"}

model, images = sys.argv[1:]
segmenter = labelsync.Segmenter(model)  # loads once, may be called from many threads
ids = [i for i, name in segmenter.labels.id2label.items() if name in WALKABLE]

for path in sorted(Path(images).glob("*.jpg"))[:8]:
    start = time.perf_counter()
    classes = segmenter.segment(path)  # (H, W), 0 = unlabeled, 1..K = classes, at the frame's own size
    seconds = time.perf_counter() - start
    height, width = classes.shape
    ahead = classes[height * 2 // 3 :, width // 3 : width * 2 // 3]
    free = np.isin(ahead, ids).mean()
    print(f"{path.name}: {free:4.0%} of the way ahead is walkable: {'go' if free > 0.6 else 'wait'} ({seconds:.3f} s)")
