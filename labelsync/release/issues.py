"""Issues on Segments.ai: what is told to labelers about a sample.

They are read by the dataset: `Sample.get_issues` of the SDK 1.33 fails on every sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from labelsync.release import client
from labelsync.release.platform import Platform


@dataclass(frozen=True)
class IssueState:
    """An issue that is there."""

    uuid: str
    sample_uuid: str
    description: str
    is_open: bool


class Issues(Platform):
    """The issues of datasets; its methods raise AuthError and ServiceError as `Platform`'s do."""

    def of(self, dataset: str) -> list[IssueState]:
        """Every issue of "owner/name", closed ones too."""
        found: Any = self._surely(
            f"list the issues of {dataset}", lambda: self._client.get_issues(client.quoted(dataset))
        )
        return [
            IssueState(i.uuid, i.sample_uuid, i.description, str(getattr(i.status, "value", i.status)) == "OPEN")
            for i in found
        ]

    def add(self, datasets: Sequence[str], sample_uuid: str, description: str) -> str:
        """Open an issue at a sample of one of the datasets; its uuid. After a lost answer it is looked for there first.

        Raises:
            Missing: there is no such sample.
        """

        def make() -> str:
            return str(self._client.add_issue(quote(sample_uuid, safe=""), description).uuid)

        def there() -> str | None:
            every = (i for d in datasets for i in self.of(d))
            same = (i for i in every if i.sample_uuid == sample_uuid and i.description == description)
            return next((i.uuid for i in same if i.is_open), None)

        return self._once("open an issue", make, done=there)
