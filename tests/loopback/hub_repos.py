"""What a loopback Hub holds: repos of commits, trees, branches, tags and pull requests; file contents by digest.

No HTTP here. A tree is a mapping path -> `Entry`; a commit has one tree and never changes. Everything lies under one
folder, so that a server that is started again on it goes on where the last one was.
"""

import datetime
import fnmatch
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MAIN = "refs/heads/main"
LFS_SIZE = 10_000_000
LFS_PATTERNS = ("*.parquet", "*.safetensors", "*.bin", "*.onnx", "*.png", "*.jpg", "*.jpeg", "*.pt", "*.arrow", "*.zip")


class HubError(Exception):
    """A refusal: HTTP status, the message of the body, and the X-Error-Code that the client sorts errors by."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Entry:
    """One file of a tree: `oid` is its git blob sha1 (of the pointer, for LFS), `sha256` is set for LFS files."""

    oid: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Commit:
    """One commit; `number` makes equal contents at different times different commits."""

    oid: str
    parent: str
    title: str
    description: str
    author: str
    date: str
    tree: dict[str, Entry]


@dataclass
class PullRequest:
    """A pull request against main; its commits are on refs/pr/`num`."""

    num: int
    title: str
    author: str
    date: str
    base: str
    status: str = "draft"
    merged: str = ""


@dataclass
class Repo:
    """One repo: `refs` maps full names ("refs/heads/main", "refs/tags/v1", "refs/pr/1") to commits."""

    kind: str
    id: str
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, tag, refs/... name, full sha or its first 7 or more characters."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.commits[self.refs[name]]
        found = [c for c in self.commits if len(revision) >= 7 and c.startswith(revision)]
        if len(found) == 1:
            return self.commits[found[0]]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def branch(self, revision: str) -> str:
        """The full name of a branch or pull request that commits can be added to."""
        for name in (revision, f"refs/heads/{revision}"):
            if name in self.refs and not name.startswith("refs/tags/"):
                return name
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        commit = self.resolve(revision)
        commits = [commit]
        while commit.parent:
            commit = self.commits[commit.parent]
            commits.append(commit)
        return commits


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def blob_oid(data: bytes) -> str:
    """git's name of a file content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The text that git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Store:
    """All repos and contents under one folder. Hold `lock` around every read-and-write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        for kind in ("git", "lfs"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        if (root / "repos.json").is_file():
            self.repos = {(r.kind, r.id): r for r in map(_repo_of, json.loads((root / "repos.json").read_text()))}

    def save(self) -> None:
        """Write the state, whole or not at all."""
        temporary = self.root / "repos.json.tmp"
        temporary.write_text(json.dumps([asdict(r) for r in self.repos.values()]))
        temporary.replace(self.root / "repos.json")

    # ---------------------------------------------------------------- contents

    def path(self, entry: Entry) -> Path:
        """The file with an entry's content."""
        return self.root / "lfs" / entry.sha256 if entry.sha256 else self.root / "git" / entry.oid

    def has_lfs(self, sha256: str) -> bool:
        """Whether an LFS object is there, committed or not."""
        return (self.root / "lfs" / sha256).is_file()

    def put_lfs(self, sha256: str, stream: BinaryIO) -> None:
        """Take an LFS object, if it is what it says it is."""
        handle, name = tempfile.mkstemp(dir=self.root)
        digest = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as f:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    f.write(block)
            if digest.hexdigest() != sha256:
                raise HubError(400, "The provided sha256 does not match the content")
            Path(name).replace(self.root / "lfs" / sha256)
        finally:
            Path(name).unlink(missing_ok=True)

    def put_git(self, data: bytes) -> Entry:
        """Take the content of a regular file."""
        entry = Entry(blob_oid(data), len(data))
        self.path(entry).write_bytes(data)
        return entry

    def put(self, path: str, data: bytes) -> Entry:
        """Take a file of a seeded repo: LFS where a push of it would be."""
        if not self.is_lfs(path, len(data), data[:512]):
            return self.put_git(data)
        sha256 = hashlib.sha256(data).hexdigest()
        (self.root / "lfs" / sha256).write_bytes(data)
        return lfs_entry(sha256, len(data))

    def is_lfs(self, path: str, size: int, sample: bytes, attributes: Iterable[str] = LFS_PATTERNS) -> bool:
        """How the Hub sorts files: by .gitattributes, by size, and binary content never goes into git."""
        named = any(fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in attributes)
        return size > 0 and (named or size > LFS_SIZE or b"\0" in sample)

    def attributes(self, tree: Mapping[str, Entry]) -> tuple[str, ...]:
        """The LFS patterns of a tree's .gitattributes."""
        if ".gitattributes" not in tree:
            return ()
        lines = self.path(tree[".gitattributes"]).read_text().splitlines()
        return tuple(line.split()[0] for line in lines if "filter=lfs" in line)

    # ---------------------------------------------------------------- repos

    def create(self, kind: str, repo_id: str, *, private: bool = False) -> Repo:
        """A repo with the Hub's first commit, which holds .gitattributes."""
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private)
        text = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LFS_PATTERNS)
        tree = {".gitattributes": self.put_git(text.encode())}
        self.commit(repo, MAIN, tree, title="initial commit", author="system")
        return repo

    def commit(
        self, repo: Repo, ref: str, tree: dict[str, Entry], *, title: str, description: str = "", author: str
    ) -> Commit:
        """Put a new commit with this tree on a ref."""
        parent, date = repo.refs.get(ref, ""), now()
        text = json.dumps(
            [parent, title, description, date, len(repo.commits), {k: asdict(v) for k, v in tree.items()}]
        )
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(oid, parent, title, description, author, date, dict(sorted(tree.items())))
        repo.commits[oid] = commit
        repo.refs[ref] = oid
        self.save()
        return commit

    def merge(self, repo: Repo, request: PullRequest, *, author: str) -> Commit:
        """Lay a pull request's changes over main, as one commit; a path that both sides changed is a conflict."""
        base = repo.commits[request.base].tree
        theirs, ours = repo.resolve(f"refs/pr/{request.num}").tree, repo.resolve(MAIN).tree
        changed = {p for p in base.keys() | theirs.keys() if base.get(p) != theirs.get(p)}
        if conflicts := sorted(p for p in changed if base.get(p) != ours.get(p) != theirs.get(p)):
            raise HubError(409, f"Conflicts in {', '.join(conflicts)}")
        tree = {p: e for p, e in ours.items() if p not in changed} | {p: theirs[p] for p in changed if p in theirs}
        merged = self.commit(repo, MAIN, tree, title=f"{request.title} (#{request.num})", author=author)
        request.status, request.merged = "merged", merged.oid
        self.save()
        return merged


def lfs_entry(sha256: str, size: int) -> Entry:
    """The entry of an LFS file."""
    return Entry(blob_oid(pointer(sha256, size)), size, sha256)


def _repo_of(saved: dict[str, Any]) -> Repo:
    commits = {
        oid: Commit(**{**c, "tree": {p: Entry(**e) for p, e in c["tree"].items()}})
        for oid, c in saved.pop("commits").items()
    }
    requests = {int(n): PullRequest(**r) for n, r in saved.pop("pull_requests").items()}
    return Repo(**saved, commits=commits, pull_requests=requests)
