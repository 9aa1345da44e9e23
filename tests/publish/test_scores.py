"""What an evaluation says on a model's card, for people and in the Hub's model-index."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import labelsync
from labelsync.errors import DatasetError, DatasetNotFound, ModelError, OptionError
from labelsync.evaluation.figures import HEADLINES
from labelsync.hub.push import push
from labelsync.hub.scores import with_scores
from tests.reported import ATTACK, CLASSES, Reported


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return Reported(tmp_path_factory.mktemp("scores"))


def scores(world: Reported) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.evaluation / "evaluation.json").read_text())
    return found


def test_a_pushed_model_says_how_it_was_scored(world: Reported, server: Any, cli: Any) -> None:
    argv = ("push", world.run, "--repo-id", "acme/seg", "--tag", "v1")
    cli(*argv, "--evaluation", world.evaluation)
    text = server.files("acme/seg", "v1", kind="model")["README.md"].decode()
    card, found = ModelCard(text), scores(world)
    results = {(r.dataset_split, r.metric_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert {split for split, _, _ in results} == {"validation", "test"}
    for name in HEADLINES:
        (value,) = [v for (split, kind, _), v in results.items() if (split, kind) == ("test", name)]
        assert value == round(found[name], 6)
    for name, iou in found["per_category_iou"].items():
        assert results["test", "per_category_iou", f"IoU of {name}"] == round(iou, 6)
    assert "## Scores on the test split" in card.text
    assert card.text.index("## Scores on the test split") < card.text.index("## Use")
    low, high = found["intervals"]["mean_iou"]
    assert f"| mean IoU | {found['mean_iou']:.4f} | {low:.4f} .. {high:.4f} |" in card.text
    assert "obstacle pixels taken for walkable" in card.text
    assert "<script" not in card.text
    assert ATTACK.format("class") == CLASSES[0]
    again = json.loads(cli(*argv, "--evaluation", world.evaluation, "--json").stdout)
    assert again["unchanged"]
    assert (world.run / "README.md").read_text().count("## Scores on the test split") == 0  # the folder stays as it is


def test_only_an_evaluation_of_that_model_is_taken(world: Reported, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="another model"):
        push(world.run, repo_id="acme/seg", evaluation=world.baseline)
    with pytest.raises(OptionError, match="is no model"):
        push(world.data, repo_id="acme/data", evaluation=world.evaluation)
    with pytest.raises(DatasetNotFound):
        push(world.run, repo_id="acme/seg", evaluation=world.data)
    edited = tmp_path / "edited"
    edited.mkdir()
    for name in ("manifest.json", "evaluation.json"):
        (edited / name).write_bytes((world.evaluation / name).read_bytes())
    (edited / "evaluation.json").write_text(json.dumps(scores(world) | {"mean_iou": 1.0}))
    with pytest.raises(DatasetError, match="was changed"):
        labelsync.push(world.run, repo_id="acme/seg", evaluation=edited)


def test_a_card_of_somebodys_own_gets_the_scores_at_its_end(world: Reported) -> None:
    card = with_scores("# Mine\n\nwords\n", scores(world) | {"mean_iou": None})
    assert card.startswith("---\nmodel-index:\n")
    assert card.index("words") < card.index("## Scores on the test split")
    assert "| mean IoU | - |" in card
    assert "mean_iou" not in {r.metric_type for r in ModelCard(card).data.eval_results or []}
