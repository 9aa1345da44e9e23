"""A report as one HTML file: Jinja2 with autoescape, style and script inside, a policy that lets nothing be fetched."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from labelsync.records.scores import Delta

KEY = "labelsync-report"  # the name of a meta element: what a report was made of


def render(context: Mapping[str, Any], *, key: str) -> str:
    """The text of the file. Whatever a name holds is text: it is escaped, and the policy runs one script alone."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelsync.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"score": score, "share": share, "signed": signed, "count": "{:,}".format}
    style, script = (_source(environment, name) for name in ("report.css", "report.js"))
    page = environment.get_template("report.html.j2")
    return page.render(context, style=style, script=script, policy=_policy(script), key_name=KEY, key=key)


def key_of(page: str) -> str:
    """What a report was made of, as its head says; "" for a page that is none."""
    start = f'<meta name="{KEY}" content="'
    at = page.find(start, 0, 4096)
    return page[at + len(start) :].partition('"')[0] if at >= 0 else ""


def score(value: float | None) -> str:
    """0.123, or "–" where there is nothing to score. What is rare is not nothing: an obstacle missed is "<0.001"."""
    if value is not None and 0 < value < 0.0005:
        return "<0.001"
    return "–" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """12.3 %, with more digits where it is small."""
    if value is None:
        return "–"
    return f"{value * 100:.1f} %" if value >= 0.01 or value == 0 else f"{value * 100:.3f} %"


def signed(delta: Delta | None) -> str:
    """+0.012, or "–"."""
    if delta is None or delta.delta is None:
        return "–"
    text = f"{delta.delta:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def _source(environment: jinja2.Environment, name: str) -> Markup:
    """A file beside the template as it is."""
    assert environment.loader is not None  # noqa: S101 - it was just given
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - a file of labelsync


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _printable(value: Any) -> Any:
    """Text without control characters, which no page may hold; markup as it is."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return "".join(c if c.isprintable() else " " for c in value)
    return value
