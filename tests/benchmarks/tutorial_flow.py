"""The conversion that the tutorials teach, for a Python that has segments-ai 1.19.1: see `tutorial`.

Arguments: URL of a release file, Parquet file to write, folder for caches. Prints a JSON line.
"""

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

release_url, target, caches = sys.argv[1:]
# A cache of its own, so that nothing is taken from an earlier run; and no way out: everything it needs is served here.
os.environ |= {"HF_HOME": caches, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import segments  # noqa: E402 - the environment is set

# The wheel of 1.19.1 was built without the card's template, and release2dataset reads it before anything else.
card = Path(segments.__file__).with_name("data") / "dataset_card_template.md"
if not card.exists():
    card.parent.mkdir(exist_ok=True)
    card.write_text("$name $short_description $segments_url $release $task_category $taxonomy_table")

from segments.huggingface import release2dataset  # noqa: E402
from segments.utils import get_semantic_bitmap  # noqa: E402


def semantic(row: dict) -> dict:
    """One row as the tutorial maps it. Its categories start at 1, so nothing has to be added."""
    bitmap = get_semantic_bitmap(row["label.segmentation_bitmap"], row["label.annotations"], id_increment=0)
    return {"label.segmentation_bitmap": bitmap}


laps = [time.perf_counter()]
rows = release2dataset(SimpleNamespace(attributes=SimpleNamespace(url=release_url)))
laps.append(time.perf_counter())
rows = rows.map(semantic)
laps.append(time.perf_counter())
rows = rows.rename_columns({"image": "pixel_values", "label.segmentation_bitmap": "label"})
rows = rows.select_columns(["pixel_values", "label"])
rows.to_parquet(target)
laps.append(time.perf_counter())
names = ("release2dataset", "map", "to_parquet")
print(json.dumps({"samples": len(rows)} | {n: b - a for n, (a, b) in zip(names, pairwise(laps), strict=True)}))
