"""Records as JSON text and back, unchanged; not for `Row`, which holds whole files. And TOML as people write it."""

import json
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from labelsync.errors import LabelsyncError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def to_json(record: object, *, indent: int | None = 2) -> str:
    """Any record as JSON text; a NaN is null, a path its string."""
    kind: Any = type(record)
    adapter: TypeAdapter[Any] = _adapter(kind)
    return adapter.dump_json(record, indent=indent).decode()


def canonical(value: Any) -> str:
    """Plain data (dicts, lists, numbers, strings) as one line of ASCII JSON, independent of key order."""
    return _CANONICAL.encode(value)


def from_json(cls: type[T], text: str | bytes, *, where: str = "record") -> T:
    """The record that `to_json` wrote. Raises LabelsyncError naming `where` if the text is another thing."""
    from pydantic import ValidationError

    kind: Any = cls
    adapter: TypeAdapter[T] = _adapter(kind)
    try:
        return adapter.validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the top"
        raise LabelsyncError(
            f"{where} is not what labelsync writes ({first['msg']} at {at})", hint="make it again"
        ) from None


def from_toml(data: bytes) -> dict[str, Any]:
    """The table of a TOML file, which may begin with the byte-order mark that editors on Windows write.

    Raises:
        ValueError: not TOML, or not UTF-8.
    """
    return tomllib.loads(data.decode("utf-8-sig"))


@cache
def _adapter(cls: Any) -> Any:
    """The TypeAdapter of a class."""
    from pydantic import TypeAdapter  # 0.1 s, which processes that only convert samples do without

    return TypeAdapter(cls)
