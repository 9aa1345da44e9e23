"""The files of a dataset that labelsync did not make: listed at once, fetched one by one when they are read."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.source import HUB_ID, asked, fetch_file
from labelsync.errors import DatasetError, DatasetNotFound, first_line
from labelsync.store.files import sha256_file

CONVERTED = "refs/convert/parquet"  # the branch that the Hub itself keeps, with any dataset as Parquet files
README = "README.md"

_BLOCK = 1 << 16  # bytes that are asked for at once; the end of a Parquet file, which tells its rows, is smaller
_AT_ONCE = 8
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")


@dataclass(frozen=True)
class ForeignFiles:
    """A folder (`repo` "") or a Hub repo at the commit `revision`.

    Attributes:
        name: what it was asked for by.
        files: path -> what its content is called by: git's or LFS's digest on the Hub, "" in a folder.
        branch: what was asked for: a branch, tag or commit.
    """

    name: str
    files: Mapping[str, str]
    folder: Path = field(default_factory=Path)
    repo: str = ""
    revision: str = ""
    branch: str = ""

    def path(self, file: str) -> Path:
        """The file on this machine, fetched if need be. Raises DatasetError, AuthError or ServiceError."""
        if self.repo:
            return fetch_file(self.repo, self.revision, file)
        path = self.folder / file
        if not path.is_file():
            raise DatasetError(f"{path} is gone", hint="copy the dataset again")
        return path

    def content(self, file: str) -> str:
        """The digest of a file's content."""
        return self.files[file] or sha256_file(self.path(file))

    def text(self, file: str) -> str:
        """A text file, "" where there is none."""
        return self.path(file).read_text(encoding="utf-8", errors="replace") if file in self.files else ""

    def metadata(self, file: str) -> pq.FileMetaData:
        """Rows and schema of a Parquet file; on the Hub only its end is fetched.

        Raises:
            DatasetError: it is no Parquet file. AuthError, ServiceError: the Hub does not show it.
        """
        try:
            if self.repo:
                return asked(self.repo, self.revision, lambda: self._remote_metadata(file), file=file)
            return pq.read_metadata(self.path(file))
        except pa.ArrowException as e:
            raise DatasetError(f"{file} of {self.name} is no Parquet file ({first_line(e)})") from None

    def all_metadata(self, files: tuple[str, ...]) -> list[pq.FileMetaData]:
        """`metadata` of several files, a few at a time."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="labelsync-footers") as pool:
            return list(pool.map(self.metadata, files))

    def _remote_metadata(self, file: str) -> pq.FileMetaData:
        from huggingface_hub import HfFileSystem, try_to_load_from_cache

        here = try_to_load_from_cache(self.repo, file, revision=self.revision, repo_type="dataset")
        if isinstance(here, str):
            return pq.read_metadata(here)
        where = f"datasets/{self.repo}@{self.revision}/{file}"
        with HfFileSystem().open(where, "rb", block_size=_BLOCK) as remote:
            return pq.read_metadata(remote)


def list_files(source: str | Path) -> ForeignFiles:
    """The files of a folder, or of a Hub id "user/name[@revision]" at the commit that the revision names now.

    A repo whose main branch holds a loading script, or nothing that can be read, is taken from the Parquet files that
    the Hub made of it, if there are any.

    Raises:
        DatasetNotFound: offline, no such repo or revision.
        AuthError, ServiceError: the Hub does not show the repo, or does not answer.
    """
    folder = Path(source).expanduser()
    hub_id = HUB_ID.fullmatch(str(source)) if isinstance(source, str) else None
    if hub_id is None or folder.exists():
        found = {p.relative_to(folder).as_posix(): "" for p in _walk(folder)}
        return ForeignFiles(str(source), dict(sorted(found.items())), folder)
    repo, branch = hub_id["repo"], hub_id["revision"] or ""
    listed = _listed(str(source), repo, branch or "main")
    if not branch and not _is_readable(listed) and (converted := _converted(str(source), repo)):
        return converted
    return listed


def is_image(file: str) -> bool:
    """Whether a file's name is that of an image."""
    return file.lower().endswith(_IMAGES)


def has_script(files: ForeignFiles) -> bool:
    """Whether a repo is read by a Python program of its own, as nobody does any more."""
    return f"{files.repo.rpartition('/')[2]}.py" in files.files


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder; hidden ones are left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".")]
        yield from (Path(root) / n for n in names if not n.startswith("."))


def _is_readable(files: ForeignFiles) -> bool:
    """Whether the branch holds rows: Parquet files, or, where no program of the repo says how to read them, images."""
    return any(f.endswith(".parquet") or (is_image(f) and not has_script(files)) for f in files.files)


def _listed(name: str, repo: str, branch: str) -> ForeignFiles:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise DatasetNotFound(
            f"the files of {repo} cannot be listed offline",
            hint=f"unset HF_HUB_OFFLINE, or fetch it with `hf download --repo-type dataset {repo}` and give the folder",
        )
    info: Any = asked(
        repo, branch, lambda: HfApi().dataset_info(repo, revision=branch, files_metadata=True), file="its files"
    )
    files = {f.rfilename: f.lfs.sha256 if f.lfs else f.blob_id or "" for f in info.siblings or ()}
    return ForeignFiles(name, dict(sorted(files.items())), repo=repo, revision=info.sha, branch=branch)


def _converted(name: str, repo: str) -> ForeignFiles | None:
    try:
        return _listed(name, repo, CONVERTED)
    except DatasetNotFound:
        return None
