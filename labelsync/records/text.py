"""Records as JSON text and back, unchanged; not for `Row`, which holds whole files."""

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from labelsync.errors import LabelsyncError

T = TypeVar("T")


def to_json(record: object, *, indent: int | None = 2) -> str:
    """Any record as JSON text; a NaN is null, a path its string."""
    return TypeAdapter(type(record)).dump_json(record, indent=indent).decode()


def from_json(cls: type[T], text: str | bytes, *, where: str = "record") -> T:
    """The record that `to_json` wrote. Raises LabelsyncError naming `where` if the text is another thing."""
    try:
        return TypeAdapter(cls).validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the top"
        raise LabelsyncError(
            f"{where} is not what labelsync writes ({first['msg']} at {at})", hint="make it again"
        ) from None
