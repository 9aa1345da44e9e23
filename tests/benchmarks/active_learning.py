"""Whether a choice of images teaches a model more than a random one: a simulation on labels that are all there.

A model is trained on what FIRST has labelled, COUNT of the other images of DATASET's train split are chosen by each
strategy as `select` would, and a new model is trained on both together. Every model starts from the same random weights
and takes the same number of steps, so a choice is all that differs. Scores are mean IoU on DATASET's split `--split`,
at the labels' own size. Beside them: no new labels, and all of them.

`python -m tests.benchmarks.active_learning DATASET FIRST [--count 100] [--start N] [--seeds 3] [--steps 800]
[--split test]`, with two datasets of `labelsync convert`: all labels, and those of the first round, of which `--start`
keeps N. It is no part of `tox -e bench`: it takes half an hour of one core. A choice can show something only where all
labels score clearly above no new ones; where the first round has seen enough already, the table says so.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import labelsync
from labelsync.deploy.strategy import DIVERSE, Judgement, judge, ranking, read_strategy
from labelsync.evaluation.confusion import confusion, zeros
from labelsync.evaluation.scores import scores
from labelsync.labels import LabelMap
from labelsync.model.load import new_model
from labelsync.model.loaded import LoadedModel
from labelsync.model.preprocess import normalize, resize
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.training.rarity import class_weights
from tests.benchmarks.measure import say, workplace
from tests.models import TINY

ASKED = ("entropy", "margin", "flip")
STRATEGIES = (*ASKED, DIVERSE, "entropy+diverse")
SIZE_HW = (96, 128)  # of the model's input
BATCH = 8
RATE = 2e-3
LEAST_CROP = 0.5  # of height and width
ARCHITECTURE = TINY | {
    "hidden_sizes": [16, 32, 64, 96],
    "num_attention_heads": [1, 2, 2, 4],
    "mlp_ratios": [4, 4, 4, 4],
    "decoder_hidden_size": 64,
}


@dataclass(frozen=True, eq=False)
class Pool:
    """Images in memory at the model's size: (N, 3, h, w) uint8, and (N, h, w) int64 model ids, 255 = unlabeled."""

    uuids: list[str]
    pixels: torch.Tensor
    targets: torch.Tensor
    images: list[npt.NDArray[np.uint8]]


def pool_of(rows: Sequence[Row], *, size_hw: tuple[int, int]) -> Pool:
    """The rows of a split, in the order of their uuids."""
    ordered = sorted(rows, key=lambda row: row.uuid)
    images = [decode_image(row.image) for row in ordered]
    labels = [torch.from_numpy(decode_semantic(row.label).astype(np.float32))[None, None] for row in ordered]
    small = [torch.nn.functional.interpolate(x, size=size_hw, mode="nearest-exact")[0, 0].long() for x in labels]
    targets = torch.stack([torch.where(x > 0, x - 1, 255) for x in small])
    return Pool([r.uuid for r in ordered], torch.stack([resize(i, size_hw) for i in images]), targets, images)


def trained(folder: Path, labels: LabelMap, pool: Pool, chosen: Sequence[int], *, steps: int, seed: int) -> LoadedModel:
    """A model of random weights, trained on some images of a pool, cropped and mirrored at random."""
    loaded = new_model(folder, labels, image_size=(pool.pixels.shape[2], pool.pixels.shape[3]), seed=seed)
    model = loaded.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    numbers = torch.tensor(list(chosen))
    weights = rarity(labels, pool.targets[numbers])
    for _ in range(steps):
        batch = numbers[torch.randint(len(numbers), (BATCH,), generator=draw)]
        pixels, targets = varied(pool.pixels[batch], pool.targets[batch], draw)
        outputs = model(normalize(pixels, mean=loaded.mean, std=loaded.std)).logits
        outputs = torch.nn.functional.interpolate(outputs, size=targets.shape[1:], mode="bilinear")
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(outputs, targets, weights, ignore_index=255).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    return loaded


def rarity(labels: LabelMap, targets: torch.Tensor) -> torch.Tensor:
    """The loss's weight of each class, as recipes' "log" has it: without, the rare classes of a short run score 0."""
    pixels = torch.bincount(targets.flatten(), minlength=256)[: labels.num_labels].numpy()
    found = class_weights("log", labels, pixels[None])
    assert found is not None
    return torch.from_numpy(found).float()


def varied(pixels: torch.Tensor, targets: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, cropped to a part of its frame and made as large as before, and mirrored or not."""
    height, width = size = pixels.shape[2:]
    share, top, left, side = torch.rand(4, generator=draw).tolist()
    high, wide = (round(n * (LEAST_CROP + (1 - LEAST_CROP) * share)) for n in size)
    rows, columns = (
        slice(round(at * (n - part)), round(at * (n - part)) + part)
        for at, n, part in ((top, height, high), (left, width, wide))
    )
    pixels = torch.nn.functional.interpolate(pixels[:, :, rows, columns].float(), size=size, mode="bilinear").byte()
    small = targets[:, None, rows, columns].float()
    targets = torch.nn.functional.interpolate(small, size=size, mode="nearest-exact")[:, 0].long()
    return (pixels.flip(-1), targets.flip(-1)) if side < 0.5 else (pixels, targets)


def score(loaded: LoadedModel, rows: Sequence[Row]) -> float:
    """Mean IoU over all pixels of the rows."""
    segmenter, counts = Segmenter(loaded), zeros(loaded.labels.num_labels)
    for row in rows:
        counts += confusion(decode_semantic(row.label), segmenter.segment(row.image), loaded.labels.num_labels)
    return float(scores(counts).mean_iou)


def choices(loaded: LoadedModel, pool: Pool, free: Sequence[int], *, count: int, seed: int) -> dict[str, list[int]]:
    """For every strategy the numbers of the images it chooses among `free`; a random choice beside them."""
    random = np.random.default_rng(seed).permutation(len(free))[:count]
    found = {"random": [free[i] for i in random]}
    segmenter = Segmenter(loaded)
    embeddings = [j.embedding for j in judged(segmenter, pool, free, DIVERSE)]
    unsure = {name: [j.uncertainty for j in judged(segmenter, pool, free, name)] for name in ASKED}
    for name in STRATEGIES:
        strategy = read_strategy(name)
        best = ranking(unsure.get(strategy.uncertainty, []), embeddings, strategy, count=count)
        found[name] = [free[i] for i in best]
    return found


def judged(segmenter: Segmenter, pool: Pool, numbers: Sequence[int], name: str) -> list[Judgement]:
    """What a strategy says of some images of a pool, one image at a time."""
    strategy = read_strategy(name)
    return [judge(segmenter, [pool.images[i]], strategy)[0] for i in numbers]


def beginning(known: Sequence[int], start: int, *, seed: int) -> list[int]:
    """`start` of the labelled images, drawn; all of them for 0."""
    return sorted(np.random.default_rng(seed).permutation(known)[: start or None].tolist())


def simulate(
    labels: LabelMap, train: Sequence[Row], held_out: Sequence[Row], first: set[str], **given: int
) -> dict[str, list[float]]:
    """Mean IoU by each choice, one value per seed."""
    pool = pool_of(train, size_hw=SIZE_HW)
    known = [i for i, uuid in enumerate(pool.uuids) if uuid in first]
    found: dict[str, list[float]] = {}
    with workplace() as folder:
        (folder / "config.json").write_text(json.dumps(ARCHITECTURE))
        for seed in range(given["seeds"]):
            begun = beginning(known, given.get("start", 0), seed=seed)
            free = sorted({*range(len(pool.uuids))} - {*begun})

            def result(name: str, numbers: Sequence[int], seed: int = seed) -> LoadedModel:
                start = time.process_time()
                loaded = trained(folder, labels, pool, numbers, steps=given["steps"], seed=seed)
                found.setdefault(name, []).append(score(loaded, held_out))
                took = time.process_time() - start
                say(f"seed {seed}, {name}, {len(numbers)} images: {found[name][-1]:.4f} ({took:.0f} CPU seconds)")
                return loaded

            base = result("no new labels", begun)
            for name, chosen in choices(base, pool, free, count=given["count"], seed=seed).items():
                result(name, [*begun, *chosen])
            result("all labels", [*begun, *free])
    return found


def table_of(found: dict[str, list[float]], title: str) -> str:
    """A line per choice: the mean, each seed, and the mean difference to the random choice of the same seed."""
    seeds = len(found["random"])
    head = " | ".join(f"seed {i}" for i in range(seeds))
    lines = [f"\n### {title}\n", f"| choice | mean IoU | {head} | to random |", "| --- " * (seeds + 3) + "|"]
    for name, values in found.items():
        apart = [a - b for a, b in zip(values, found["random"], strict=True)]
        each = " | ".join(f"{v:.4f}" for v in values)
        spread = f" ({min(apart):+.4f} .. {max(apart):+.4f})" if seeds > 1 and name != "random" else ""
        lines.append(f"| {name} | {statistics.mean(values):.4f} | {each} | {statistics.mean(apart):+.4f}{spread} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Two datasets of your own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("first")
    parser.add_argument("--split", default="test")
    for flag, default in (("--count", 100), ("--start", 0), ("--seeds", 3), ("--steps", 800)):
        parser.add_argument(flag, type=int, default=default)
    given = parser.parse_args()
    data, first = labelsync.load(given.dataset), labelsync.load(given.first)
    labelled = {row.uuid for rows in first.splits.values() for row in rows}
    numbers = {name: getattr(given, name) for name in ("count", "start", "seeds", "steps")}
    found = simulate(data.labels, list(data.splits["train"]), list(data.splits[given.split]), labelled, **numbers)
    title = (
        f"{given.count} images chosen beside {given.start or 'all'} of the first round, {given.steps} steps of {BATCH}"
    )
    print(table_of(found, title))


if __name__ == "__main__":
    main()
