"""A Hugging Face Hub on 127.0.0.1 for the unmodified clients: repos, LFS uploads, commits, tags, pull requests, files.

    with LoopbackHub() as hub:                      # tests; writes with WRITE_TOKEN, in the namespaces acme and robots
        HfApi(endpoint=hub.url, token=WRITE_TOKEN).create_repo("acme/sidewalk", repo_type="dataset")

    python -m tests.loopback.hub --port 8932 --token hf_me:acme:write --root ./hub      # by hand

It has two listeners: the Hub, and the storage that LFS files go to and come from. The second is another origin, so the
clients' CDN path runs and `hub.log` can prove that no token goes there.

Both ways of sending large files are spoken: LFS, and Xet (hub_xet.py), which users of hf_xet get. The tests have Xet
off where they do not need it (HF_HUB_DISABLE_XET=1): its client is a compiled library with threads of its own.

Unlike the real one: no redirect to a cache for small files, few README rules (hub_cards.py), no quotas, no gated
repos, no dataset viewer, a pull request is merged path by path, and commit names are not git's.
"""

import argparse
import hmac
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import flask
from werkzeug.routing import BaseConverter

from tests.loopback import hub_api, hub_files, hub_xet
from tests.loopback.faults import Faults
from tests.loopback.hub_access import refuse
from tests.loopback.hub_repos import MAIN, HubError, Repo, Store
from tests.loopback.serving import Log, Server, until_interrupted

WRITE_TOKEN = "hf_loopbackWriteToken"
READ_TOKEN = "hf_loopbackReadToken"
TOKENS = {WRITE_TOKEN: "acme:write:robots", READ_TOKEN: "acme:read:robots"}


class LoopbackHub:
    """The two servers and what they hold.

    Args:
        root: folder of the state; what an earlier server left there is served again. Default: a temporary one.
        tokens: token -> "user:read|write[:org,org]".
        page_size: entries per page of a tree listing; the real Hub has 1000.

    Attributes:
        url, storage_url: where the two listen; the ports are open from the constructor on.
        log: every request, see `Log.find`; log entries hold no token.
        faults: what goes wrong next, see `Faults`.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        tokens: Mapping[str, str] = TOKENS,
        port: int = 0,
        storage_port: int = 0,
        page_size: int = 1000,
    ) -> None:
        self._temporary = None if root else tempfile.TemporaryDirectory(prefix="loopback-hub-")
        self.store = Store(root or Path(self._temporary.name))
        self.chunks = hub_xet.Chunks(self.store.root / "xet")
        self.log, self.faults = Log(), Faults()
        self.tokens, self.page_size = dict(tokens), page_size
        self._secret = secrets.token_bytes(16)
        self._hub = Server(_hub_app(self), name="hub", log=self.log, faults=self.faults, port=port)
        self._storage = Server(
            hub_files.storage_app(self), name="storage", log=self.log, faults=self.faults, port=storage_port
        )
        self.url, self.storage_url = self._hub.url, self._storage.url

    def __enter__(self) -> "LoopbackHub":
        self._hub.start()
        self._storage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.stop()
        self._storage.stop()
        if self._temporary:
            self._temporary.cleanup()

    # ---------------------------------------------------------------- for tests: the state without HTTP

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str] | None = None,
        *,
        kind: str = "dataset",
        private: bool = False,
        ref: str = MAIN,
    ) -> str:
        """Make a repo ("dataset" or "model") if it is missing, put files on its main or `ref`, return the commit."""
        with self.store.lock:
            repo = self.store.repos.get((kind, repo_id)) or self.store.create(kind, repo_id, private=private)
            tree = dict(repo.resolve(ref).tree) if ref in repo.refs else {}
            for path, content in (files or {}).items():
                tree[path] = self.store.put(path, content.encode() if isinstance(content, str) else content)
            return self.store.commit(repo, ref, tree, title="Seeded", author="somebody").oid

    def repo(self, repo_id: str, *, kind: str = "dataset") -> Repo:
        """A repo's refs and commits."""
        return self.store.repos[kind, repo_id]

    def files(self, repo_id: str, revision: str = "main", *, kind: str = "dataset") -> dict[str, bytes]:
        """Every file at a revision with its content, .gitattributes left out."""
        tree = self.repo(repo_id, kind=kind).resolve(revision).tree
        return {p: self.store.path(e).read_bytes() for p, e in tree.items() if p != ".gitattributes"}

    # ---------------------------------------------------------------- signed storage urls

    def signed(self, method: str, sha256: str) -> str:
        """A storage url that works for this method and object without a token."""
        return f"{self.storage_url}/lfs/{sha256}?X-Amz-Signature={self.signature(method, sha256)}"

    def signature(self, method: str, sha256: str) -> str:
        """What `signed` puts into the query."""
        return hmac.new(self._secret, f"{method} {sha256}".encode(), "sha256").hexdigest()


class _Segment(BaseConverter):
    """One path segment that may hold an encoded "/"; the middleware left it encoded."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote(value)


def _hub_app(hub: LoopbackHub) -> flask.Flask:
    app = flask.Flask("loopback-hub")
    app.url_map.converters["segment"] = _Segment
    app.register_error_handler(HubError, refuse)
    hub_api.add_routes(app, hub)
    hub_files.add_routes(app, hub)
    hub_xet.add_routes(app, hub)
    return app


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.loopback.hub", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8932)
    parser.add_argument("--storage-port", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of the state; default: a temporary one")
    parser.add_argument("--token", action="append", default=[], metavar="TOKEN:USER:read|write[:ORG,ORG]")
    parser.add_argument("--page-size", type=int, default=1000)
    args = parser.parse_args()
    tokens = dict(text.split(":", 1) for text in args.token) or TOKENS
    with LoopbackHub(
        args.root, tokens=tokens, port=args.port, storage_port=args.storage_port, page_size=args.page_size
    ) as hub:
        print(f"export HF_ENDPOINT={hub.url} HF_TOKEN={next(iter(tokens))}", flush=True)
        until_interrupted()


if __name__ == "__main__":
    main()
