"""Rows -> an Arrow table as `datasets` has it, without the seconds that importing it takes, and pandas below it.

A conversion of some hundred samples lasts no longer than those imports, in every process that does them.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def schema_of(columns: tuple[str, str]) -> pa.Schema:
    """Of the Parquet files: image and label as files, name and uuid as text; with the features that `datasets` reads.

    Equal to `datasets.Features(...).arrow_schema` to the byte, which the tests hold.
    """
    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features: dict[str, Any] = {name: {"_type": "Image"} for name in columns}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in ("name", "uuid")}
    fields = [*((name, file) for name in columns), ("name", pa.string()), ("uuid", pa.string())]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows of texts and of {"bytes": .., "path": ..} as a table of that schema; no value is missing.

    The bytes are copied once. A table is a row group, far below the 2 GiB that Arrow's offsets can tell apart.
    """
    columns = zip(*rows, strict=True)
    arrays = [_column(list(c), t) for c, t in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        parts = [_texts((v[field.name] for v in values), field.type) for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    return _texts(values, kind)


def _texts(values: Iterable[str | bytes], kind: pa.DataType) -> Any:
    """Texts or bytes as an array: offsets, and everything in one piece."""
    pieces = [v.encode() if isinstance(v, str) else v for v in values]
    offsets = np.zeros(len(pieces) + 1, np.int32)
    np.cumsum([len(p) for p in pieces], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(kind, len(pieces), buffers)
