"""export.json, the record of an export: its figures as gates name them, and when it may be written or believed."""

import json
from pathlib import Path

from labelsync.errors import LabelsyncError, OptionError, OutputExists
from labelsync.evaluation.gates import Gate, parse_gate
from labelsync.records.exports import ExportRecord
from labelsync.records.text import from_json, to_json
from labelsync.store.files import sha256_file, write_bytes, write_text

RECORD = "export.json"

_TOLERANCES = {"fp32": 0.001, "fp16": 0.005, "int8": 0.02}


def figures_of(record: ExportRecord) -> dict[str, float | None]:
    """Every figure of an export by the name that gates use."""
    figures: dict[str, float | None] = {
        "agreement": record.agreement,
        "worst_agreement": record.worst_agreement,
        "mean_iou": record.mean_iou,
        "torch_mean_iou": record.torch_mean_iou,
        "delta.mean_iou": None
        if record.mean_iou is None or record.torch_mean_iou is None
        else record.mean_iou - record.torch_mean_iou,
        "megabytes": record.bytes / 1e6,
    }
    for name, times in record.latency.items():
        figures |= {
            f"{name}_p50_ms": times.p50_ms,
            f"{name}_p95_ms": times.p95_ms,
            f"{name}_images_per_second": times.images_per_second,
        }
    return figures


def tolerance_gate(tolerance: float | None, precision: str) -> Gate:
    """The tolerance as a gate. Raises OptionError for one that is no share."""
    share = _TOLERANCES[precision] if tolerance is None else tolerance
    if not 0 <= share < 1:
        raise OptionError(f"--tolerance is {share:g}", hint="it is a share of the pixels, as 0.001")
    return parse_gate(f"agreement >= {1 - share:.9g}")


def onnx_path(out: str | Path) -> Path:
    """--out as a path. Raises OptionError for one that is no .onnx file: nothing would load it."""
    path = Path(out).expanduser()
    if path.suffix != ".onnx":
        raise OptionError(f"--out {out} is no name of an .onnx file", hint="name it model.onnx")
    return path


def leave(file: Path, path: Path, record: ExportRecord, fingerprint: str) -> None:
    """The file and then its record: one that says something of another file is never there."""
    beside = path.with_name(RECORD)
    beside.unlink(missing_ok=True)
    write_bytes(path, file.read_bytes())
    told = {"fingerprint": fingerprint, **json.loads(to_json(record))}
    write_text(beside, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def read_record(path: Path) -> tuple[ExportRecord, str]:
    """The record of export.json at `path`, and the fingerprint of what was asked for.

    Raises:
        LabelsyncError: it is not there, or not what export writes.
    """
    try:
        told = json.loads(path.read_bytes())
        fingerprint = str(told.pop("fingerprint"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise LabelsyncError(f"{path} is no record of labelsync export", hint="export the model again") from None
    return from_json(ExportRecord, json.dumps(told), where=str(path)), fingerprint


def same_export(path: Path, wanted: str) -> ExportRecord | None:
    """The record of the file at `path` if it is of the very same export."""
    try:
        record, fingerprint = read_record(path.with_name(RECORD))
    except LabelsyncError:
        return None
    whole = path.is_file() and sha256_file(path) == record.digest
    return record if whole and record.path == path.name and fingerprint == wanted else None


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raises OutputExists unless both files may be written: nothing is there, or an export that may be replaced."""
    beside = path.with_name(RECORD)
    try:
        known = read_record(beside)[0].path if beside.exists() else ""
    except LabelsyncError as e:
        raise OutputExists(f"{beside} is not replaced: {e.message}", hint="choose another folder") from None
    if known and known != path.name and path.with_name(known).exists():
        raise OutputExists(f"{beside} is the record of {known}", hint="give every export a folder of its own")
    if path.exists() and not (overwrite and known == path.name):
        hint = "choose another --out or pass --overwrite" if known == path.name else "choose another --out"
        raise OutputExists(f"{path} exists", hint=hint)
