"""The rows of a dataset as Arrow has them, made without pandas."""

import subprocess
import sys

import datasets
import pyarrow as pa
import pytest

from labelsync.dataset.arrays import schema_of, table_of

FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
SCHEMA = pa.schema({"label": FILE, "name": pa.string()}, metadata={"a": "b"})


@pytest.mark.parametrize(
    "rows",
    [
        [({"bytes": b"\x89PNG\0", "path": "ä.png"}, "straße.jpg")],
        [({"bytes": b"", "path": ""}, ""), ({"bytes": bytes(70_000), "path": "b"}, "日本")],
    ],
)
def test_a_table_is_what_pyarrow_makes_of_the_rows(rows):
    made = table_of(rows, SCHEMA)
    made.validate(full=True)
    columns = zip(*rows, strict=True)
    arrays = [pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)]
    assert made.equals(pa.Table.from_arrays(arrays, schema=SCHEMA), check_metadata=True)


@pytest.mark.parametrize("columns", [("pixel_values", "label"), ("image", "label")])
def test_the_schema_is_that_of_datasets(columns):
    text, image = datasets.Value("string"), datasets.Image()
    features = datasets.Features({columns[0]: image, columns[1]: image, "name": text, "uuid": text})
    assert schema_of(columns).serialize().to_pybytes() == features.arrow_schema.serialize().to_pybytes()


def test_a_conversion_loads_neither_datasets_nor_pandas():
    script = """
import sys
import labelsync.dataset.convert
print(*[m for m in ("pandas", "datasets", "torch") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_worker_loads_no_pandas():
    script = """
import sys
import pyarrow as pa
import pyarrow.parquet
from labelsync.dataset.arrays import table_of
table_of([({"bytes": b"a", "path": "b"},)], pa.schema({"x": pa.struct({"bytes": pa.binary(), "path": pa.string()})}))
import labelsync.dataset.pool
print(*[m for m in ("pandas", "datasets", "torch") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
