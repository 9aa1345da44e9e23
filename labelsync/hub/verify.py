"""`verify`: whether a publication on the Hub still is what its manifest says."""

import re
from collections.abc import Mapping

from labelsync.errors import OptionError, PublishError
from labelsync.hub.client import MAIN, HubRepo
from labelsync.hub.plan import RemoteFile
from labelsync.hub.publication import KINDS, README, manifest_of
from labelsync.hub.readback import read_back
from labelsync.hub.refusals import RepoMissing
from labelsync.records.results import VerifyRecord
from labelsync.store.files import sha256
from labelsync.store.manifest import MANIFEST, Manifest

_NAME = re.compile(r"(?P<repo>[^@\s]+)(?:@(?P<revision>\S+))?")


def verify(repo: str, *, repo_type: str | None = None) -> VerifyRecord:
    """Read a dataset or model back from the Hub, at the commit that the revision names now, and from no cache.

    Every file's digest is compared with the manifest's. Of a dataset, rows are counted in every shard and one image
    per split is decoded with its label; of a model, config and the headers of its weights are read. Data is fetched
    only where a format must be looked into.

    Args:
        repo: "owner/name[@revision]", a tag, a branch or a commit; default main.
        repo_type: "dataset" or "model"; None = whichever of the two exists.

    Raises:
        OptionError: not a repo's name, or a dataset and a model have that name.
        PublishError: a file differs (the first is named, `details` has all), or nothing of labelsync is there.
        AuthError, ServiceError: the Hub does not show it, or does not answer.
    """
    if repo_type not in (None, "dataset", "model"):
        raise OptionError(f"repo_type is {repo_type!r}", hint="it is 'dataset' or 'model'")
    named = _NAME.fullmatch(str(repo))
    if named is None:
        raise OptionError(f"{str(repo)!r} is not a repo's name", hint="give owner/name@tag, e.g. acme/sidewalk@v1.0")
    revision = named["revision"] or MAIN
    hub = _found(named["repo"], [repo_type] if repo_type else ["dataset", "model"])
    commit = hub.head(revision)
    tree = hub.tree(commit)
    manifest = _manifest(hub, commit, tree, name=f"{hub.repo_id}@{revision}")
    compare(hub, commit, tree, manifest)
    there = read_back(hub, commit, tree, manifest)
    listed = {*manifest.files, MANIFEST, README, ".gitattributes"}
    return VerifyRecord(
        repo_id=hub.repo_id,
        repo_type=hub.kind,
        revision=revision,
        commit=commit,
        digest=manifest.digest,
        release=str(manifest.summary.get("release") or ""),
        files=len(manifest.files),
        other=len(tree.keys() - listed),
        bytes=sum(tree[path].size for path in manifest.files),
        rows=there.rows,
        decoded=there.decoded,
        tensors=there.tensors,
        parameters=there.parameters,
        fetched=there.fetched,
    )


def compare(hub: HubRepo, commit: str, tree: Mapping[str, RemoteFile], manifest: Manifest) -> None:
    """Compare every file of a manifest with a commit, and look for data that it does not list.

    Large files by the digest that the Hub keeps of them; small ones are read. README.md is there to be edited.

    Raises:
        PublishError: a file is missing, differs, or is one too many.
    """
    wrong = {}
    for path, entry in manifest.files.items():
        there = tree.get(path)
        if there is None:
            wrong[path] = "is missing"
        elif path != README and there.size != entry.size:
            wrong[path] = f"has {there.size} bytes and its manifest says {entry.size}"
        elif path != README and (there.sha256 or sha256(hub.read(path, commit))) != entry.sha256:
            wrong[path] = "is not the file that its manifest describes"
    if hub.kind == "dataset":
        wrong |= {p: "is data that the manifest does not list" for p in tree if _is_data(p) and p not in manifest.files}
    if wrong:
        path = min(wrong)
        more = f" ({len(wrong)} files differ)" if len(wrong) > 1 else ""
        raise PublishError(
            f"{path} of {hub.repo_id} at {commit[:8]} {wrong[path]}{more}",
            hint="push the folder that it was made from",
            details=[f"{p} {wrong[p]}" for p in sorted(wrong)] if more else (),
        )


def _found(repo_id: str, kinds: list[str]) -> HubRepo:
    """The repo of the one kind that exists."""
    found, missing = [], None
    for kind in kinds:
        hub = HubRepo(repo_id, kind, anonymous=True)
        try:
            hub.head()
        except RepoMissing as e:
            missing = e
        else:
            found.append(hub)
    if len(found) > 1:
        raise OptionError(f"there is a dataset and a model named {repo_id}", hint="pass --repo-type dataset or model")
    if not found:
        assert missing is not None  # noqa: S101 - neither found nor missing cannot be
        raise missing
    return found[0]


def _manifest(hub: HubRepo, commit: str, tree: Mapping[str, RemoteFile], *, name: str) -> Manifest:
    hint = "labelsync push publishes what can be verified"
    if MANIFEST not in tree:
        raise PublishError(f"{name} was not published by labelsync: it has no {MANIFEST}", hint=hint)
    manifest = manifest_of(hub.read(MANIFEST, commit))
    if manifest is None or KINDS.get(manifest.stage) != hub.kind:
        raise PublishError(f"{MANIFEST} of {name} is not that of a {hub.kind} of labelsync", hint=hint)
    return manifest


def _is_data(path: str) -> bool:
    return path.startswith("data/")
