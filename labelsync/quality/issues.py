"""What a model contradicts, as issues at the samples on Segments.ai: one a sample, with all its regions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from labelsync.errors import AuthError, OptionError, ServiceError
from labelsync.records.findings import Finding, IssueRow
from labelsync.release.issues import Issues

MARK = "labelsync check:"  # how an issue of ours begins, and is known again


def datasets_of(named: str) -> list[str]:
    """The datasets on Segments.ai that a release or dataset was made from. Raises OptionError if it says none."""
    found = named.split(" + ")
    for name in found:
        owner, _, rest = name.partition("/")
        if not owner or not rest or "/" in rest:
            raise OptionError(
                f"{named!r} names no dataset on Segments.ai", hint="issues are opened for what was pulled from there"
            )
    return found


def open_issues(
    platform: Issues, findings: Sequence[Finding], *, datasets: Sequence[str], model: str | Path, dry_run: bool
) -> tuple[IssueRow, ...]:
    """Open an issue at every sample of the findings that has no open one of ours; a row for each, the worst first.

    Args:
        findings: regions that the model contradicts, the worst first.
        datasets: where the samples may be.
        dry_run: only tell which issues would be opened.

    Raises:
        AuthError: the key may not; what was opened till then stays.
    """
    there = {
        issue.sample_uuid: issue.uuid
        for dataset in datasets
        for issue in platform.of(dataset)
        if issue.is_open and issue.description.startswith(MARK)
    }
    rows = []
    for uuid, regions in _by_sample(findings).items():
        name, number = regions[0].name, len(regions)
        if uuid in there:
            rows.append(IssueRow(uuid, name, "there", number, there[uuid]))
            continue
        try:
            made = "" if dry_run else platform.add(datasets, uuid, _description(regions, model))
        except AuthError:
            raise
        except ServiceError as e:
            rows.append(IssueRow(uuid, name, "failed", number, reason=e.message))
        else:
            rows.append(IssueRow(uuid, name, "opened", number, made))
    return tuple(rows)


def _by_sample(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.uuid, []).append(finding)
    return found


def _description(regions: Sequence[Finding], model: str | Path) -> str:
    """What labelers read; of a model in a folder the last part of its path."""
    path = Path(model)
    called = path.resolve().name if path.exists() else str(model)
    what = "this region is" if len(regions) == 1 else f"these {len(regions)} regions are"
    lines = [f"{MARK} the model {called} doubts that {what} labelled right. Close this where the label is right."]
    return "\n".join([*lines, *(f"- {finding.message}" for finding in regions)])
