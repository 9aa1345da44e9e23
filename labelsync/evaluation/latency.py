"""Latency for a report, out of the record that an export left."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelsync.errors import OptionError


@dataclass(frozen=True)
class Latency:
    """Milliseconds per image in one setting, such as "cpu, 2 threads": half and 95 % of the runs took no longer."""

    name: str
    p50: float
    p95: float


@dataclass(frozen=True)
class Export:
    """What an export measured: `facts` = what is said about it -> how it reads; `model_digest` "" = not said."""

    latency: tuple[Latency, ...]
    facts: dict[str, str] = field(default_factory=dict)
    model_digest: str = ""


_FACTS = ("precision", "device", "threads", "runs", "batch_size", "measured_on", "agreement", "tolerance", "bytes")


def read_export(path: str | Path) -> Export:
    """Every pair of p50 and p95 in a JSON file, named by where it stands in it, and what else it says on top.

    Raises:
        OptionError: no such file, no JSON, or nothing measured in it.
    """
    hint = "give the record that labelsync export left"
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as e:
        raise OptionError(f"--export {path}: {e.strerror or e}", hint=hint) from None
    except ValueError as e:
        raise OptionError(f"--export {path} is not JSON ({e})", hint=hint) from None
    rows = tuple(_measured(found, ()))
    if not rows:
        raise OptionError(f"--export {path} has no p50 and p95", hint=hint)
    top = found if isinstance(found, dict) else {}
    said = {name: top[name] for name in _FACTS if isinstance(top.get(name), str | int | float) and top[name] != ""}
    facts = {name.replace("_", " "): f"{v:,}" if isinstance(v, int) else str(v) for name, v in said.items()}
    return Export(rows, facts, str(top.get("model_digest", "")))


def _measured(value: Any, trail: tuple[str, ...]) -> list[Latency]:
    if isinstance(value, list):
        return [row for i, item in enumerate(value, 1) for row in _measured(item, (*trail, str(i)))]
    if not isinstance(value, dict):
        return []
    rows = []
    for key in value:
        other = key.replace("p50", "p95")
        if "p50" in key and isinstance(value[key], int | float) and isinstance(value.get(other), int | float):
            rows.append(Latency(_name(value, trail, key), float(value[key]), float(value[other])))
    return rows + [row for key, item in value.items() for row in _measured(item, (*trail, key))]


def _name(beside: dict[str, Any], trail: tuple[str, ...], key: str) -> str:
    """Where a figure stands, and what is said beside it: the device, the provider, the threads."""
    said = [str(beside[k]) for k in ("name", "runtime", "provider", "device") if isinstance(beside.get(k), str)]
    said += [f"{beside['threads']} threads"] if isinstance(beside.get("threads"), int) else []
    own = key.replace("p50", "").replace("_ms", "").strip("_. ")
    return ", ".join(
        [
            *(part.replace("_", " ") for part in trail if not part.isdigit() and part != "latency"),
            *said,
            *([own] if own else []),
        ]
    )
