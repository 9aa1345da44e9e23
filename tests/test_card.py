"""The card: what the Hub reads, what people read, and what nobody can smuggle in."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard

import labelsync
from labelsync.dataset.card import cell, code
from tests.releases import draw_release, edit_release

HOSTILE = "a|b\n# c <script>alert(1)</script> `x` [l](http://e) \\ {{ 7 * 7 }} ---"


def card_of(folder: Path, *, change: Any = None, allow_failed: int = 0, convert: Any = None, **draw: Any) -> str:
    release = draw_release(folder / "drawn", **({"samples": 12} | draw))
    if change:
        edit_release(release, change)
    pulled = labelsync.pull(release, out=folder / "pulled", allow_failed=allow_failed)
    options = convert or {}
    labelsync.convert(pulled.path, out=folder / "data", allow_failed=allow_failed, **options)
    return (folder / "data/README.md").read_text()


def front_matter(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def tables(card: str) -> list[list[list[str]]]:
    """Every Markdown table as rows of cells, split as GitHub does: at every | without a backslash."""
    found: list[list[list[str]]] = [[]]
    for line in card.splitlines():
        if line.startswith("|"):
            found[-1].append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [t for t in found if t]


def test_the_metadata_is_what_the_hub_and_load_dataset_want(tmp_path: Path) -> None:
    metadata = front_matter(card_of(tmp_path, samples=20))
    assert metadata["task_categories"] == ["image-segmentation"]
    assert metadata["task_ids"] == ["semantic-segmentation"]
    assert metadata["size_categories"] == ["n<1K"]
    assert metadata["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": s, "path": f"data/{s}-*"} for s in ("train", "validation", "test")],
        }
    ]
    info = metadata["dataset_info"]
    assert [(f["name"], f["dtype"]) for f in info["features"]] == [
        ("pixel_values", "image"),
        ("label", "image"),
        ("name", "string"),
        ("uuid", "string"),
    ]
    assert {s["name"]: s["num_examples"] for s in info["splits"]} == {"train": 16, "validation": 2, "test": 2}
    rows = labelsync.load(tmp_path / "data").splits
    sizes = {split: sum(len(r.image) + len(r.label) for r in part) for split, part in rows.items()}
    assert {s["name"]: s["num_bytes"] for s in info["splits"]} == sizes


def test_the_hub_takes_the_card(tmp_path: Path, hub: Any) -> None:
    if hub is None:
        pytest.fail("the loopback Hub is missing")
    DatasetCard(card_of(tmp_path, change=hostile_names)).validate(repo_type="dataset")


def test_the_numbers_are_those_of_the_data(tmp_path: Path) -> None:
    card = card_of(tmp_path, samples=20, unlabeled=[0], skipped=[1, 2])
    classes, splits, outcomes = tables(card)[1:4]
    assert [row[1] for row in classes[2:]] == ["class-1", "class-2", "class-3"]
    assert sum(float(row[3].rstrip("%")) for row in classes[2:]) == pytest.approx(100, abs=0.02)
    assert sum(int(row[1]) for row in splits[2:]) == 17
    assert outcomes[2:] == [
        ["converted", "17"],
        ["unlabeled", "1"],
        ["filtered", "2"],
        ["**in the release**", "**20**"],
    ]
    assert "By a stable hash of the image, aiming at 80%, 10%, 10%" in card
    assert "lost" not in card and "None" not in card and "{{" not in card and "{%" not in card


def test_a_round_that_lost_samples_says_so(tmp_path: Path) -> None:
    card = card_of(tmp_path, samples=40, wrong_size=range(25), allow_failed=25)
    assert "**25 of 40 samples were lost in this round**" in card
    (lost,) = (t for t in tables(card) if t[0][0] == "lost sample")
    assert lost[2] == ["frame_0000.jpg", "its bitmap is 46x64, its image 48x64 pixels high x wide"]
    assert len(lost) == 2 + 20 + 1 and lost[-1] == ["and 5 more", ""]


def hostile_names(document: dict[str, Any]) -> None:
    document["name"] = f"v1 {HOSTILE}"
    document["description"] = HOSTILE
    document["dataset"]["name"] = HOSTILE
    for i, c in enumerate(document["dataset"]["task_attributes"]["categories"]):
        c["name"] = f"{i} {HOSTILE}"
    for i, s in enumerate(document["dataset"]["samples"]):
        s["name"] = f"{i} {HOSTILE}"


def test_what_people_wrote_stays_text(tmp_path: Path) -> None:
    card = card_of(tmp_path, samples=20, change=hostile_names, wrong_size=[3], allow_failed=1)
    metadata = front_matter(card)
    assert metadata["pretty_name"].endswith(HOSTILE)
    assert set(metadata) >= {"dataset_info", "configs", "tags"}
    body = card.split("---\n", 2)[2]
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", body, flags=re.DOTALL)
    assert "<script" not in outside_code
    assert "{{ 7 \\* 7 }}" in body
    plain = tables(card_of(tmp_path / "plain", samples=20, wrong_size=[3], allow_failed=1))
    assert [[len(row) for row in t] for t in tables(card)] == [[len(row) for row in t] for t in plain]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert [h.split()[0] for h in headings] == ["#"] + ["##"] * 7
    assert body.count("```") == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name", "plain name"),
        ("a|b", "a\\|b"),
        ("a\n\n| x |\x00\u2028", "a \\| x \\|"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("`*[]", "\\`\\*\\[\\]"),
        ("back\\|slash", "back\\\\\\|slash"),
    ],
)
def test_a_cell_is_one_line_without_markup(text: str, expected: str) -> None:
    assert cell(text) == expected


def test_code_cannot_be_left(tmp_path: Path) -> None:
    assert code("v1`\"\n'|\\x") == "v1 x"


def test_unlabeled_pixels_are_explained(tmp_path: Path) -> None:
    ignored = card_of(tmp_path / "a")
    assert re.search(r"\d+\.\d\d% of the pixels are unlabeled \(0\) and are to be ignored", ignored)
    as_class = card_of(tmp_path / "b", convert={"unlabeled": "class"})
    assert "are the class `background`; 0 does not occur" in as_class


def test_given_and_grouped_splits_are_told(tmp_path: Path) -> None:
    grouped = card_of(tmp_path / "a", groups=4, convert={"group_by": "metadata.sequence"})
    assert "hash of the group (`metadata.sequence`)" in grouped
    file = tmp_path / "f.json"
    file.write_text('{"train": ["seq-0"], "validation": ["seq-1"]}')
    given = card_of(tmp_path / "b", groups=2, convert={"group_by": "metadata.sequence", "splits": file})
    assert "They were given in a file." in given
    assert [s["name"] for s in front_matter(given)["dataset_info"]["splits"]] == ["train", "validation"]


def test_plain_bitmaps_have_a_card_without_parquet(tmp_path: Path) -> None:
    card = card_of(tmp_path, convert={"format": "bitmaps"})
    assert "configs" not in front_matter(card) and "load_dataset" not in card
    assert "images/<split>/<name>" in card


def test_a_later_round_says_what_it_changed(tmp_path: Path, cli: Any) -> None:
    import json

    def relabel(document: dict[str, Any]) -> None:
        del document["dataset"]["samples"][0]
        document["dataset"]["task_attributes"]["categories"][0]["name"] = "footway"
        for sample in document["dataset"]["samples"][:4]:  # after the first, which is gone: 4 of the 11 in both
            for annotation in sample["labels"]["ground-truth"]["attributes"]["annotations"]:
                annotation["category_id"] = 3 if annotation["category_id"] == 2 else annotation["category_id"]

    for name, samples, change in (("v1", 12, None), ("v2", 15, relabel)):
        release = draw_release(tmp_path / "drawn" / name, samples=samples, name=name)
        if change:
            edit_release(release, change)
        cli("pull", release, "--out", tmp_path / "pulled" / name)
        earlier = ["--previous", tmp_path / "v1"] if change else []
        cli("convert", tmp_path / "pulled" / name, "--out", tmp_path / name, "--workers", 1, *earlier)
    first, second = ((tmp_path / name / "README.md").read_text() for name in ("v1", "v2"))
    assert "## Since" not in first
    told = "3 samples added, 1 removed, 11 in both, 4 of them with another label, image or name."
    assert f"## Since release `v1`\n\n{told}" in second
    assert "Since the earlier round: class-1 is now footway." in second
    before, now = (json.loads((tmp_path / n / "manifest.json").read_text())["summary"] for n in ("v1", "v2"))
    classes = next(t for t in tables(second) if t[0][0] == "class" and t[0][1] == "pixels before")[2:]
    expected = {
        name: (a, b)
        for name, a, b in zip(
            ["unlabeled", "footway", "class-2", "class-3"], before["pixels"], now["pixels"], strict=True
        )
        if a != b
    }
    assert {row[0]: tuple(int(c.replace(",", "")) for c in row[1:3]) for row in classes} == expected
    assert expected["class-2"][1] < expected["class-2"][0] and expected["class-3"][1] > expected["class-3"][0]
    assert {row[0]: int(row[3].replace(",", "")) for row in classes} == {n: b - a for n, (a, b) in expected.items()}
    splits = next(t for t in tables(second) if t[0] == ["split", "images before", "images now"])[2:]
    assert {row[0]: (int(row[1]), int(row[2])) for row in splits} == {
        split: (before["splits"][split], now["splits"][split]) for split in ("train", "validation", "test")
    }
