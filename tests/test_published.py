"""What was pushed, loaded back by its tag: with datasets, streaming, and transformers."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from labelsync.labels import LabelClass, LabelMap
from labelsync.store.manifest import write_manifest
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.releases import draw_release

LABELS = LabelMap((LabelClass("road", (1,)), LabelClass("sidewalk", (2,))))

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)


def png(value: int, shape: tuple[int, ...]) -> bytes:
    """A PNG of one value."""
    out = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_split(folder: Path, split: str, values: list[int]) -> None:
    """One shard: image i shows values[i], its label is class values[i] % 3."""
    import datasets

    rows = {
        "pixel_values": [{"bytes": png(v, (6, 8, 3)), "path": None} for v in values],
        "label": [{"bytes": png(v % 3, (6, 8)), "path": None} for v in values],
        "name": [f"{v}.png" for v in values],
    }
    features = datasets.Features(pixel_values=datasets.Image(), label=datasets.Image(), name=datasets.Value("string"))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))


def dataset_folder(folder: Path, *, release: str, **splits: list[int]) -> Path:
    for split, values in splits.items():
        write_split(folder, split, values)
    (folder / "id2label.json").write_text(LABELS.id2label_json())
    files = "".join(f"  - split: {s}\n    path: data/{s}-*\n" for s in splits)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n# {release}\n"
    )
    write_manifest(folder, "convert", inputs={}, settings={}, summary={"release": release}, labels=LABELS)
    return folder


def pixels(rows: Any) -> list[tuple[str, int, int]]:
    """(name, value of the image, value of the label) of every row."""
    return [(r["name"], int(np.asarray(r["pixel_values"]).max()), int(np.asarray(r["label"]).max())) for r in rows]


def test_every_tag_loads_as_it_was_pushed_also_streaming(cli: Cli, hub: LoopbackHub, tmp_path: Path) -> None:
    from datasets import load_dataset

    repo_id = "acme/published-dataset"
    rounds = {"v1": {"train": [10, 20, 30], "test": [41]}, "v2": {"train": [10, 20, 33, 50], "test": [41]}}
    for release, splits in rounds.items():
        cli("push", dataset_folder(tmp_path / release, release=release, **splits), "--repo-id", repo_id)
    for release, splits in rounds.items():
        loaded = load_dataset(repo_id, revision=release)
        streamed = load_dataset(repo_id, revision=release, streaming=True)
        for split, values in splits.items():
            expected = [(f"{v}.png", v, v % 3) for v in values]
            assert pixels(loaded[split]) == expected
            assert pixels(streamed[split]) == expected


def test_a_converted_release_is_the_same_dataset_on_the_hub(cli: Cli, hub: LoopbackHub, tmp_path: Path) -> None:
    import labelsync

    for name, samples in (("v1.0", 12), ("v2.0", 14)):
        release = draw_release(tmp_path / "files" / name, samples=samples, name=name)
        cli("pull", release, "--out", tmp_path / "release" / name)
        earlier = ["--previous", "acme/published-release@v1.0"] if name == "v2.0" else []
        cli("convert", tmp_path / "release" / name, "--out", tmp_path / name, "--workers", 1, *earlier)
        cli("push", tmp_path / name, "--repo-id", "acme/published-release")
    for name in ("v1.0", "v2.0"):
        here = labelsync.load(tmp_path / name)
        there = labelsync.load(f"acme/published-release@{name}")
        assert (there.digest, there.release, there.labels) == (here.digest, name, here.labels)
        assert there.revision == hub.repo("acme/published-release").refs[f"refs/tags/{name}"]
        assert {s: list(rows) for s, rows in there.splits.items()} == {s: list(rows) for s, rows in here.splits.items()}


def test_a_pushed_model_loads_with_every_tensor_it_had(cli: Cli, hub: LoopbackHub, tmp_path: Path) -> None:
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(1)
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1] * 4}
    config = SegformerConfig(**sizes, decoder_hidden_size=16, id2label=LABELS.model_id2label)
    model, folder = SegformerForSemanticSegmentation(config), tmp_path / "run"
    model.save_pretrained(folder)
    SegformerImageProcessor(do_reduce_labels=True).save_pretrained(folder)
    write_manifest(folder, "train", inputs={}, settings={}, summary={}, labels=LABELS)
    cli("push", folder, "--repo-id", "acme/published-model", "--tag", "v1")

    torch.manual_seed(2)
    again = SegformerForSemanticSegmentation.from_pretrained("acme/published-model", revision="v1")
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.config.id2label == {0: "road", 1: "sidewalk"}
    assert SegformerImageProcessor.from_pretrained("acme/published-model", revision="v1").do_reduce_labels
