"""Gates: thresholds on figures, as `mean_iou >= 0.55`, `iou.person >= 0.4` or `mean_iou[weather=rain] >= 0.5`."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelsync.errors import GateFailed, OptionError
from labelsync.records.scores import GateResult, SliceScores
from labelsync.records.text import from_toml

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
# The limit holds no sign of an operator, so it is the last one that counts: a slice may be called "x >= 3". It may also
# have a line break in it, hence DOTALL.
_GATE = re.compile(r"\s*(?P<name>\S.*?)\s*(?P<operator>>=|<=|>|<)\s*(?P<limit>[^<>=\s]+)\s*", re.DOTALL)
_HOW = 'write "mean_iou >= 0.55": a figure, one of >= <= > <, and a number'


@dataclass(frozen=True)
class Gate:
    """A figure that has to be on one side of a limit."""

    text: str
    name: str
    operator: str
    limit: float


def read_gates(gate: Sequence[str], gates: str | Path | None) -> tuple[Gate, ...]:
    """The gates of `--gate` and then those of the `--gates` file, TOML with gates = ["mean_iou >= 0.55", ..].

    Raises:
        OptionError: no such file, another form, or a gate that cannot be read.
    """
    return tuple(parse_gate(text) for text in (*gate, *(_listed(Path(gates)) if gates is not None else ())))


def parse_gate(text: str) -> Gate:
    """One gate. Raises OptionError if it cannot be read."""
    match = _GATE.fullmatch(text)
    try:
        limit = float(match["limit"]) if match else math.nan
    except ValueError:
        limit = math.nan
    if match is None or math.isnan(limit):
        raise OptionError(f"the gate {text!r} cannot be read", hint=_HOW)
    return Gate(text.strip(), match["name"], match["operator"], limit)


def check_gates(gates: Sequence[Gate], figures: Mapping[str, float | None]) -> tuple[GateResult, ...]:
    """What became of each gate. A figure that is not there, or undefined, does not meet any."""
    return tuple(_checked(gate, figures) for gate in gates)


def require_gates(results: Sequence[GateResult], record: object) -> None:
    """Raises GateFailed, carrying the record, with a line for each gate that is not met."""
    failed = [result for result in results if not result.passed]
    if failed:
        raise GateFailed(
            f"{len(failed)} of {len(results)} gates not met",
            hint="look at the lines above",
            details=[f"{result.gate}: {result.reason}" for result in failed],
            record=record,
        )


def with_slices(
    figures: Mapping[str, float | None], slices: Mapping[str, Mapping[str, SliceScores]]
) -> dict[str, float | None]:
    """Figures by the names that gates use: those of slices as `mean_iou[weather=rain]`."""
    return dict(figures) | {
        f"{name}[{by}={value}]": number
        for by, values in slices.items()
        for value, scores in values.items()
        for name, number in scores.figures.items()
    }


def _checked(gate: Gate, figures: Mapping[str, float | None]) -> GateResult:
    if gate.name not in figures:
        near = difflib.get_close_matches(gate.name, figures, n=1)
        return GateResult(gate.text, None, "there is no such figure" + (f"; {near[0]} is one" if near else ""))
    value = figures[gate.name]
    if value is None or math.isnan(value):
        return GateResult(gate.text, None, "it is undefined here: nothing was there to score")
    met = _OPERATORS[gate.operator](value, gate.limit)
    return GateResult(gate.text, value, "" if met else f"it is {value:.6g}")


def _listed(path: Path) -> list[str]:
    try:
        found = from_toml(path.read_bytes())
    except OSError as e:
        raise OptionError(f"--gates {path}: {e.strerror or e}", hint=_FILE) from None
    except ValueError as e:
        raise OptionError(f"--gates {path} is not TOML ({e})", hint=_FILE) from None
    gates = found.get("gates")
    if not isinstance(gates, list) or not all(isinstance(g, str) for g in gates):
        raise OptionError(f"--gates {path} has no list of gates", hint=_FILE)
    return gates


_FILE = 'write gates = ["mean_iou >= 0.55", "iou.person >= 0.4"]'
