import pytest

from labelsync.errors import GateFailed, OptionError
from labelsync.evaluation.gates import check_gates, parse_gate, read_gates, require_gates, with_slices
from labelsync.evaluation.groups import groups_for
from labelsync.pipeline.config import read_config
from labelsync.records.scores import SliceScores
from labelsync.training.recipe import load_recipe
from labelsync.training.show import show_recipe

FIGURES = {"mean_iou": 0.55, "iou.road > kerb": 0.2, "iou.lost": None, "mean_iou[weather=light rain]": 0.4}


@pytest.mark.parametrize(
    ("gate", "met"),
    [
        ("mean_iou >= 0.55", True),
        ("mean_iou>=0.5500001", False),
        ("mean_iou <= 0.55", True),
        ("mean_iou > 0.55", False),
        ("mean_iou < 0.55", False),
        ("  mean_iou > -1e-3 ", True),
        ("iou.road > kerb >= 0.2", True),
        ("mean_iou[weather=light rain] >= 0.5", False),
    ],
)
def test_a_gate_is_a_figure_on_one_side_of_a_number(gate, met):
    (result,) = check_gates([parse_gate(gate)], FIGURES)
    assert result.passed is met
    assert result.value in FIGURES.values()


@pytest.mark.parametrize(
    ("gate", "why"),
    [("iou.lost >= 0", "undefined"), ("iou.lost <= 1", "undefined"), ("mean_iuo >= 0", "mean_iou is one")],
)
def test_a_figure_that_is_not_there_meets_no_gate(gate, why):
    (result,) = check_gates([parse_gate(gate)], FIGURES)
    assert (result.passed, result.value) == (False, None)
    assert why in result.reason


@pytest.mark.parametrize("gate", ["", "mean_iou", "mean_iou >= ", ">= 0.5", "mean_iou >= half", "a >= nan", "a == 1"])
def test_a_gate_that_cannot_be_read_is_a_usage_error(gate):
    with pytest.raises(OptionError, match="cannot be read"):
        parse_gate(gate)


@pytest.mark.parametrize("value", ["x >= 3", "x>=3", ">", "a\nb", "< 2 m <= 3"])
def test_a_slice_may_be_called_anything(value):
    figures = with_slices({}, {"note": {value: SliceScores(1, 10, {"mean_iou": 0.5})}})
    met, failed = (
        check_gates([parse_gate(f"mean_iou[note={value}] {limit}")], figures)[0] for limit in (">= 0.5", ">0.5")
    )
    assert (met.passed, met.value, failed.reason) == (True, 0.5, "it is 0.5")


def test_a_file_adds_gates(tmp_path):
    path = tmp_path / "gates.toml"
    path.write_text('gates = ["mean_iou >= 0.5", "iou.person > 0.4"]\n')
    assert [g.text for g in read_gates(["a > 1"], path)] == ["a > 1", "mean_iou >= 0.5", "iou.person > 0.4"]
    for text, why in (("gates = 3", "no list"), ("gates", "not TOML"), ("", "no list")):
        path.write_text(text)
        with pytest.raises(OptionError, match=why):
            read_gates([], path)
    with pytest.raises(OptionError, match="No such file"):
        read_gates([], tmp_path / "none.toml")


def test_toml_files_may_begin_with_a_byte_order_mark(tmp_path):
    """As editors on Windows write it, in every file that people give us."""
    mark, file = "\ufeff", tmp_path / "given.toml"
    file.write_text(mark + 'gates = ["mean_iou >= 0.5"]', encoding="utf-8")
    assert [gate.text for gate in read_gates((), file)] == ["mean_iou >= 0.5"]
    file.write_text(mark + 'walkable = ["path"]\nobstacle = ["wäll"]', encoding="utf-8")
    assert groups_for(("path", "wäll"), file) is not None
    file.write_text(mark + show_recipe("fast").toml, encoding="utf-8")
    assert load_recipe(file) == load_recipe("fast")
    file.write_text(mark + '[segments]\ndatasets = ["acme/sidewalk"]', encoding="utf-8")
    assert read_config(file).segments.datasets == ("acme/sidewalk",)


def test_the_error_has_a_line_per_gate_that_is_not_met_and_the_record():
    results = check_gates([parse_gate(g) for g in ("mean_iou >= 0.9", "mean_iou > 0", "x > 0")], FIGURES)
    with pytest.raises(GateFailed, match="2 of 3 gates not met") as e:
        require_gates(results, "the record")
    assert e.value.details == ("mean_iou >= 0.9: it is 0.55", "x > 0: there is no such figure")
    assert e.value.record == "the record"
    require_gates(results[1:2], None)


def test_slices_are_figures_in_brackets():
    part = SliceScores(1, 10, {"mean_iou": 0.3, "iou.road": None})
    found = with_slices({"mean_iou": 0.5}, {"weather": {"rain": part}})
    assert found == {"mean_iou": 0.5, "mean_iou[weather=rain]": 0.3, "iou.road[weather=rain]": None}
