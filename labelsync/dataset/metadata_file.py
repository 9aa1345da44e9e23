"""metadata.json: what Segments.ai knows of every sample besides its label (weather, site, camera), for scores by slice.

It is no column of the dataset: nothing is trained on it. It travels in the repo beside splits.json.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labelsync.dataset.source import DatasetFiles
from labelsync.errors import DatasetError
from labelsync.records.release import Ledger, Sample
from labelsync.store.files import write_text

METADATA = "metadata.json"


def write_metadata(folder: Path, samples: Iterable[Sample], ledger: Ledger) -> None:
    """uuid -> metadata of the converted samples that have any, sorted, as metadata.json in `folder`."""
    converted = {row.uuid for row in ledger.rows if row.outcome == "converted"}
    found = {s.uuid: s.metadata for s in samples if s.metadata and s.uuid in converted}
    write_text(folder / METADATA, json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_metadata(files: DatasetFiles) -> Mapping[str, Mapping[str, Any]]:
    """uuid -> metadata.

    Raises:
        DatasetError: the dataset was converted before this file was written, or it is not what was written.
    """
    if METADATA not in files.manifest.files:
        raise DatasetError(
            f"{files.name} has no {METADATA}", hint="convert the release again: earlier ones left it out"
        )
    try:
        found = json.loads(files.path(METADATA).read_bytes())
        if all(isinstance(v, dict) for v in found.values()):
            return dict(found)
    except (ValueError, AttributeError):
        pass
    raise DatasetError(f"{METADATA} of {files.name} is not what labelsync writes", hint="convert the release again")
