"""The cards as they are published, byte for byte, from facts that stand here: tests/golden/*.md.

Where a change of a card is meant, the failing test says where the new one lies.
"""

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from labelsync.dataset.card import CardFacts, render
from labelsync.dataset.since import ClassSince, Since
from labelsync.dataset.split import Assignment
from labelsync.hub.readme import addressed, merged, with_license
from labelsync.labels import LabelClass, LabelMap
from labelsync.records.release import Ledger, LedgerRow, Release, Sample
from labelsync.taxonomy import TaxonomyChanges
from tests.loopback.hub_cards import check

GOLDEN = Path(__file__).parent / "golden"

LABELS = LabelMap(
    (
        LabelClass("sidewalk", (1,), (204, 204, 204)),
        LabelClass("road", (2,), (80, 80, 80)),
        LabelClass("kiosk", (7,), (200, 40, 40), removed=True),
    )
)
OUTCOMES = [("converted", "")] * 7 + [
    ("unlabeled", "it has no label"),
    ("failed", "its bitmap is 46x64, its image 48x64 pixels high x wide"),
]


def require_golden(name: str, text: str, tmp_path: Path) -> None:
    """The text is that of a golden file."""
    path = GOLDEN / name
    if path.is_file() and path.read_text() == text:
        return
    (tmp_path / name).write_text(text)
    pytest.fail(f"not the golden card; if it is meant: cp {tmp_path / name} {path}")


def facts(*, since: Since | None) -> CardFacts:
    """Two rounds of a small dataset."""
    rows = tuple(LedgerRow(f"u{i}", f"frame_{i}.jpg", o, reason) for i, (o, reason) in enumerate(OUTCOMES))  # type: ignore[arg-type]
    samples = tuple(Sample(row.uuid, row.name, None) for row in rows)
    return CardFacts(
        release=Release(
            "v2.0", "acme/sidewalk", "segmentation-bitmap", "ground-truth", (), samples, "Rainy days", "2024-03-01"
        ),
        labels=LABELS,
        changes=TaxonomyChanges(renamed=(("pavement", "sidewalk"),), removed=("kiosk",))
        if since
        else TaxonomyChanges(),
        ledger=Ledger(rows),
        assignment=Assignment("metadata.walk", (0.8, 0.1, 0.1), samples={"u0": "train"}),
        splits={"train": 5, "validation": 1, "test": 1},
        sizes={"train": 50_000, "validation": 9_000, "test": 9_500},
        pixels=[1_000, 12_000, 7_500, 500],
        images=[7, 7, 6, 1],
        columns=("pixel_values", "label"),
        status=("LABELED", "REVIEWED"),
        metadata={},
        releases=(),
        inputs={"release": "a" * 64} | ({"previous": "b" * 64} if since else {}),
        since=since,
    )


def second_round() -> Since:
    classes = (ClassSince("unlabeled", 1_200, 1_000), ClassSince("road", 3_000, 7_500))
    return Since("v1.0", 2, 1, 5, 3, {"train": (4, 5), "validation": (1, 1), "test": (1, 1)}, classes)


@pytest.mark.parametrize(("name", "since"), [("dataset-v1.0.md", None), ("dataset-v2.0.md", second_round())])
def test_the_dataset_card(name: str, since: Since | None, tmp_path: Path) -> None:
    card = render(facts(since=since))
    require_golden(name, card, tmp_path)
    assert check(card, "dataset") == ([], [])
    assert DatasetCard(card).data.task_ids == ["semantic-segmentation"]


def test_the_published_card_keeps_what_people_wrote(tmp_path: Path) -> None:
    first = merged(None, render(facts(since=None)))
    theirs = first.replace("tags:\n", "license: mit\ntags:\n- rain\n").replace(
        "---\n<!--", "---\nCall Ana first.\n\n<!--"
    )
    assert "Call Ana" in theirs
    ours = addressed(render(facts(since=second_round())), "acme/sidewalk")
    published = with_license(merged(theirs, ours), "cc-by-4.0")
    require_golden("dataset-published.md", published, tmp_path)
    assert check(published, "dataset") == ([], [])


def test_the_model_card(tmp_path: Path) -> None:
    import dataclasses

    from labelsync.model.load import new_model
    from labelsync.training.card import model_card
    from labelsync.training.recipe import load_recipe
    from tests.models import tiny_segformer

    loaded = new_model(tiny_segformer(tmp_path / "m", LABELS), LABELS, image_size=(512, 512), seed=0)
    scores = {"mean_iou": 0.61234567, "mean_accuracy": 0.7, "overall_accuracy": 0.9}
    for name, iou in (("sidewalk", 0.75), ("road", 0.4746913), ("kiosk", float("nan"))):
        scores |= {f"iou_{name}": iou, f"accuracy_{name}": iou + 0.1}
    summary = {
        "model": "nvidia/mit-b0",
        "model_revision": "e" * 40,
        "dataset": "acme/sidewalk@v2.0",
        "release": "v2.0",
        "revision": "c" * 40,
        "head": "fresh",
        "parameters": 3_714_915,
        "steps": 3_150,
        "epochs": 50.0,
        "best_step": 2_900,
    }
    card = model_card(
        dataclasses.replace(loaded, revision="e" * 40),
        load_recipe("sidewalk"),
        dataset_digest="d" * 64,
        scores=scores,
        summary=summary,
        seed=7,
    )
    require_golden("model.md", card, tmp_path)
    assert check(card, "model") == ([], [])
    assert ModelCard(card).data.base_model == "nvidia/mit-b0"
