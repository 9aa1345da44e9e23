"""Records go to JSON and back unchanged, and ledgers add up."""

import json
import math
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelsync.errors import LabelsyncError
from labelsync.records import (
    changes,
    exports,
    findings,
    platform,
    prelabels,
    release,
    results,
    rounds,
    scores,
    selection,
)
from labelsync.records.release import Annotation, Label, Ledger, LedgerRow, Release, Sample
from labelsync.records.text import from_json, to_json
from labelsync.taxonomy import Category

RECORDS = [
    c
    for module in (changes, exports, findings, platform, prelabels, release, results, rounds, scores, selection)
    for c in vars(module).values()
    if is_dataclass(c) and c.__module__ == module.__name__ and c is not release.Row  # holds files, is never printed
]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
st.register_type_strategy(str, text)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(
    Sample,
    st.builds(
        Sample, text, text, st.none() | text, st.none() | st.builds(Label), st.dictionaries(text, json_values), text
    ),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda c: c.__name__)
@settings(max_examples=30)
@given(st.data())
def test_every_record_survives_json(record, data):
    value = data.draw(st.builds(record) if record is not Sample else st.from_type(Sample))
    assert from_json(record, to_json(value)) == value


@pytest.mark.parametrize("record", RECORDS, ids=lambda c: c.__name__)
def test_records_cannot_be_changed(record):
    assert record.__dataclass_params__.frozen
    assert all(f.type is not list for f in fields(record))


def test_a_nan_is_null():
    row = results.PredictRecord(path="p", model="m", images=1, failed={}, seconds=math.nan)
    assert json.loads(to_json(row))["seconds"] is None


def test_a_record_reads_as_its_fields_in_order():
    row = LedgerRow("u", "café", "failed", "why")
    assert json.loads(to_json(row)) == {
        "uuid": "u",
        "name": "café",
        "outcome": "failed",
        "reason": "why",
        "status": "",
        "undrawn": {},
    }
    assert to_json(row).startswith('{\n  "uuid": "u",\n')
    assert to_json(row, indent=None).startswith('{"uuid":"u","name":"café"')


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "ledger.json is not what labelsync writes"),
        ("{}", "at rows"),
        ('{"rows": [{"uuid": "u", "name": "n", "outcome": "vanished"}]}', "at rows.0.outcome"),
        ('{"rows": 3}', "at rows"),
    ],
)
def test_another_text_is_refused_with_the_place(written, says):
    with pytest.raises(LabelsyncError, match=says):
        from_json(Ledger, written, where="ledger.json")


# ---------------------------------------------------------------- the ledger

SAMPLES = [Sample("a", "a.jpg", None), Sample("b", "b.jpg", None)]
ROWS = (LedgerRow("a", "a.jpg", "pulled"), LedgerRow("b", "b.jpg", "failed", "gone"))


def test_totals_name_every_outcome_and_add_up():
    assert Ledger(ROWS).totals == {"pulled": 1, "converted": 0, "unlabeled": 0, "filtered": 0, "empty": 0, "failed": 1}
    assert sum(Ledger(ROWS).totals.values()) == 2
    assert Ledger(ROWS).failed == (ROWS[1],)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],  # one lost
        (*ROWS, ROWS[0]),  # one twice
        (ROWS[0], ROWS[0]),  # one twice, one lost
        (ROWS[0], replace(ROWS[1], uuid="c")),  # another
    ],
)
def test_a_ledger_with_a_row_too_few_or_too_many_is_refused(rows):
    Ledger(ROWS).require_complete(SAMPLES)
    with pytest.raises(LabelsyncError, match="does not add up at sample"):
        Ledger(rows).require_complete(SAMPLES)


def test_a_whole_release_survives_json():
    label = Label("REVIEWED", (Annotation(1, 0), Annotation(1 << 23, 70000)), "https://x/b.png")
    sample = Sample("u", "../../x.jpg", "https://x/a.jpg", label, {"weather": ["rain", None, {"mm": 1.5}]})
    release = Release("v1", "a/b", "segmentation-bitmap", "ground-truth", (Category(0, "road", (1, 2, 3)),), (sample,))
    assert from_json(Release, to_json(release)) == release
