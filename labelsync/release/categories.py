"""`create --categories`: where the taxonomy of a new Segments.ai dataset comes from.

    sidewalk            the preset: the 34 classes of the sidewalk robot ("unlabeled" is what nobody draws)
    FILE.toml           [[categories]] with name, and id, color, has_instances if wanted; or a labels file as `convert`
                        has it, whose classes become the categories
    FILE.json           a release, task attributes as Segments.ai shows them ({"categories": [..]}), a list of
                        categories, an id2label, or the config.json of a model
    FOLDER              of `pull`, `convert` or `train`, or a model of transformers
    OWNER/DATASET@RELEASE   on Segments.ai

Numbers are kept where the source has Segments.ai numbers; classes that never were categories, or that several
categories were merged to, are numbered by their disk ids, so that the way back is the identity.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelsync.errors import OptionError, TaxonomyError, first_line
from labelsync.labels import BACKGROUND, LabelMap, from_id2label, split_unlabeled
from labelsync.records.text import from_toml
from labelsync.release.folder import RELEASE
from labelsync.release.labels_file import color_of, did_you_mean, read_labels_file
from labelsync.release.parse import categories_of, load_document
from labelsync.release.sources import read_source
from labelsync.release.values import integer
from labelsync.sidewalk import preset
from labelsync.store.manifest import MANIFEST, read_manifest
from labelsync.taxonomy import Category, palette

SIDEWALK = "sidewalk"

_FLAG = "--categories"
_FORMS = "give sidewalk, a TOML or JSON file, a folder of labelsync, or owner/dataset@release"
_KEYS = ("id", "name", "color", "has_instances")
_MAPS = ("config.json", "id2label.json")  # in a folder that labelsync did not make
_WAIT = 600.0  # seconds for a release that is PENDING


def read_task_attributes(source: str | Path) -> dict[str, Any]:
    """The API's task attributes that `source` names; the categories in the order of the source.

    Raises:
        OptionError: `source` is none of the forms above, or a file that is no such thing.
        TaxonomyError: a name or number that occurs twice, or no category.
        ReleaseNotFound, ReleaseFormatError, ReleaseNotReady, AuthError, ServiceError: as `pull`, for a release.
    """
    found = _read(source)
    categories = [_with_color(c, i) for i, c in enumerate(found["categories"], 1)]
    if not categories:
        raise TaxonomyError(f"{_FLAG} {source} has no category", hint="name one at least")
    split_unlabeled(plain(categories))  # refuses a name or number that occurs twice
    return {"format_version": "0.1"} | found | {"categories": categories}


def plain(categories: Iterable[Mapping[str, Any]]) -> tuple[Category, ...]:
    """The API's categories as those of labelsync."""
    return tuple(Category(c["id"], c["name"], _rgb(c.get("color")), c.get("has_instances") is True) for c in categories)


def _rgb(color: Sequence[int] | None) -> tuple[int, int, int] | None:
    return (color[0], color[1], color[2]) if color else None


# -------------------------------------------------------------------- the forms


def _read(source: str | Path) -> dict[str, Any]:
    if source == SIDEWALK:
        return _of_categories(c for c in preset.CATEGORIES if c.id)
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if isinstance(source, str) and not path.is_file():
        if "@" not in source and "://" not in source:
            near = did_you_mean(source, [SIDEWALK])
            raise OptionError(f"{_FLAG}: there is no file or folder {source}", hint=_FORMS + near)
        file = read_source(source, wait=_WAIT)
        return _of_release(load_document(file.data, where=file.where), where=file.where)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise OptionError(f"{_FLAG} {path}: {e.strerror or e}", hint=_FORMS) from None
    return _of_toml(path, data) if path.suffix.lower() == ".toml" else _of_json(data, where=f"{_FLAG} {path}")


def _of_folder(folder: Path) -> dict[str, Any]:
    if (folder / RELEASE).is_file():
        return _of_json((folder / RELEASE).read_bytes(), where=f"{_FLAG} {folder / RELEASE}")
    if (folder / MANIFEST).is_file() and (labels := read_manifest(folder).labels) is not None:
        return _of_map(labels)
    for name in _MAPS:
        if (folder / name).is_file():
            return _of_json((folder / name).read_bytes(), where=f"{_FLAG} {folder / name}")
    raise OptionError(f"{_FLAG}: the folder {folder} tells no classes", hint=_FORMS)


def _of_toml(path: Path, data: bytes) -> dict[str, Any]:
    where = f"{_FLAG} {path}"
    try:
        table = from_toml(data)
    except ValueError as e:
        raise OptionError(f"{where} is not TOML ({first_line(e)})", hint=_FORMS) from None
    if "categories" in table:
        if extra := sorted(table.keys() - {"categories"}):
            raise OptionError(f"{where}: there is no setting {extra[0]!r}", hint="write [[categories]] tables alone")
        return {"categories": _listed(table["categories"], where, strict=True)}
    file = read_labels_file(path, flag=_FLAG)
    if not file.classes:
        raise OptionError(f"{where} names no class", hint="write [[categories]] tables, or [classes]")
    return _of_categories(Category(i, name, file.colors.get(name)) for i, name in enumerate(file.classes, 1))


def _of_json(data: bytes, *, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise OptionError(f"{where} is not JSON", hint=_FORMS) from None
    if isinstance(found, list):
        return {"categories": _listed(found, where)}
    if isinstance(found, dict):
        if "dataset" in found:
            return _of_release(load_document(data, where=where), where=where)
        if "categories" in found:
            kept = {k: found[k] for k in ("format_version", "image_attributes") if k in found}
            return kept | {"categories": _listed(found["categories"], where)}
        names = found.get("id2label", found)
        if isinstance(names, dict) and all(str(k).isdigit() for k in names):
            return _of_map(from_id2label(names))
    raise OptionError(f"{where} is neither a release nor categories nor an id2label", hint=_FORMS)


def _of_release(document: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Its task attributes: numbers and the attributes that annotators fill in are kept, colours are made whole."""
    dataset = document["dataset"]
    categories = categories_of(dataset, where=where)
    given = dataset["task_attributes"]
    more = [{k: c[k] for k in ("attributes",) if c.get(k)} for c in given["categories"]]
    kept = {"image_attributes": given["image_attributes"]} if given.get("image_attributes") else {}
    return kept | {"categories": [_api(c) | extra for c, extra in zip(categories, more, strict=True)]}


def _of_map(labels: LabelMap) -> dict[str, Any]:
    """Of a dataset or a model. `background` is what is left undrawn, and a removed class is nobody's any more."""
    drawn = [
        (i, c)
        for i, c in enumerate(labels.classes, 1)
        if not c.removed and not (labels.unlabeled == "class" and c.name == BACKGROUND)
    ]
    numbered = not labels.sources and all(len(c.category_ids) == 1 for _, c in drawn)
    return _of_categories(
        Category(c.category_ids[0] if numbered else i, c.name, c.color, c.has_instances) for i, c in drawn
    )


def _of_categories(categories: Iterable[Category]) -> dict[str, Any]:
    return {"categories": [_api(c) for c in categories]}


def _api(category: Category) -> dict[str, Any]:
    color = {} if category.color is None else {"color": list(category.color)}
    return {"id": category.id, "name": category.name, **color, "has_instances": category.has_instances}


# -------------------------------------------------------------------- categories as people write them


def _listed(entries: Any, where: str, *, strict: bool = False) -> list[dict[str, Any]]:
    """Categories of a file; where none has a number they are counted from 1.

    Args:
        strict: refuse keys that mean nothing; what Segments.ai shows has many.
    """
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise OptionError(f"{where}: categories is no list of tables", hint='write [[categories]] and name = ".."')
    numbered = [e for e in entries if e.get("id") is not None]
    if numbered and len(numbered) < len(entries):
        raise OptionError(
            f"{where}: {len(numbered)} of {len(entries)} categories have an id", hint="give one to all, or to none"
        )
    return [_entry(e, i, where, strict=strict) for i, e in enumerate(entries, 1)]


def _entry(entry: dict[str, Any], position: int, where: str, *, strict: bool) -> dict[str, Any]:
    name, number = entry.get("name"), integer(entry.get("id", position))
    if not isinstance(name, str) or not name.strip():
        raise OptionError(f"{where}: category {position} has no name", hint='write name = ".."')
    at = f"{where}: category {name!r}"
    if number is None or number < 0:
        raise OptionError(f"{at} has the id {entry['id']!r}", hint="ids are whole numbers from 0")
    if not isinstance(entry.get("has_instances") or False, bool):
        raise OptionError(f"{at}: has_instances is {entry['has_instances']!r}", hint="it is true or false")
    if strict and (unknown := sorted(entry.keys() - {*_KEYS})):
        hint = f"there are {', '.join(_KEYS)}{did_you_mean(unknown[0], _KEYS)}"
        raise OptionError(f"{at} has no {unknown[0]!r} to set", hint=hint)
    color = entry.get("color")
    if isinstance(color, list) and len(color) == 4:  # as the label editor writes some
        color = color[:3]
    given = {} if color is None else {"color": list(color_of(color, name, where))}
    kept = {"attributes": entry["attributes"]} if entry.get("attributes") else {}
    return {"id": number, "name": name, **given, "has_instances": entry.get("has_instances") is True, **kept}


def _with_color(category: dict[str, Any], position: int) -> dict[str, Any]:
    return category if category.get("color") else category | {"color": list(palette(position))}


# -------------------------------------------------------------------- two taxonomies


def differences(there: Iterable[Category], wanted: Iterable[Category]) -> list[str]:
    """What makes two taxonomies two, a line each; colours and order do not."""
    old, new = {c.id: c for c in there}, {c.id: c for c in wanted}
    lines = []
    for number in sorted({*old, *new}):
        a, b = old.get(number), new.get(number)
        if a is None or b is None:
            known = a or b
            assert known is not None  # noqa: S101 - one of the two has it
            lines.append(f"{number} {known.name!r} is only {'there' if a else 'here'}")
        elif a.name != b.name:
            lines.append(f"{number} is {a.name!r} there and {b.name!r} here")
        elif a.has_instances != b.has_instances:
            lines.append(f"{number} {a.name!r} has {'' if a.has_instances else 'no '}instances there")
    return lines
