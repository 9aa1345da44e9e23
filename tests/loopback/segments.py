"""A loopback Segments.ai for the real, unmodified SDK: `with LoopbackSegments() as server: ...`.

By hand, on a folder of rounds (release-v1.json ..):

    python -m tests.loopback.segments --release-dir FOLDER --port 8931 --api-port 8930
    export SEGMENTS_API_URL=http://127.0.0.1:8930 SEGMENTS_API_KEY=loopback-key

Every release*.json of the folder is a release of the dataset it names; the folder itself is served at
http://127.0.0.1:8931/<its name>/, where such release files say their images are. While it runs:

    curl -d '{"release": "FOLDER/release-v4.json"}' http://127.0.0.1:8931/-/rounds
    curl -d '{"kind": "status", "code": 503, "path": "/images/", "times": 2}' http://127.0.0.1:8931/-/faults
    curl -d '{"sample": UUID, "status": "LABELED", "before": "PUT"}' http://127.0.0.1:8931/-/people
    curl http://127.0.0.1:8931/-/log
"""

import argparse
import itertools
import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request

from tests.loopback.faults import Faults
from tests.loopback.segments_api import api_app
from tests.loopback.segments_people import Person
from tests.loopback.segments_state import Platform, Release
from tests.loopback.segments_storage import Bucket, storage_app
from tests.loopback.serving import Log, Server, until_interrupted

KEY = "loopback-key"


class LoopbackSegments:
    """The API (`url`) and its storage (`storage_url`) on two ports of 127.0.0.1.

    Attributes:
        platform: what it holds; tests may change it between requests.
        log: every request to both ("api" and "storage" in `Request.server`).
        faults: what goes wrong on request.
    """

    def __init__(self, *, port: int = 0, api_port: int = 0) -> None:
        self.platform, self.bucket = Platform(), Bucket()
        self.platform.sign = self.bucket.sign
        self.log, self.faults = Log(), Faults()
        api = api_app(self.platform, keys={KEY}, storage_url=lambda: self.storage_url)
        storage = storage_app(self.platform, self.bucket)
        _add_controls(storage, self)
        shared: dict[str, Any] = {"log": self.log, "faults": self.faults}
        self._servers = [
            Server(api, name="api", port=api_port, **shared),
            Server(storage, name="storage", port=port, **shared),
        ]
        self.url, self.storage_url = (s.url for s in self._servers)
        self.env: dict[str, str | None] = {"SEGMENTS_API_KEY": KEY, "SEGMENTS_API_URL": self.url}
        self._mounts = itertools.count()

    def __enter__(self) -> "LoopbackSegments":
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.stop()

    def replace_faults(self, faults: Faults) -> None:
        """Make these faults; before the server is entered."""
        self.faults = faults
        for server in self._servers:
            server.replace_faults(faults)

    def mount(self, folder: Path, name: str = "") -> str:
        """Serve a folder; returns its URL, with "/" at the end. Without a name it gets one that never was before."""
        name = name or f"f{next(self._mounts)}-{uuid.uuid4().hex[:8]}"
        self.bucket.folders[name] = folder
        return f"{self.storage_url}/{name}/"

    def add_round(
        self, path: Path, *, outcome: str = "SUCCEEDED", polls: int = 0, sign: str = "", private: bool = False
    ) -> str:
        """Take a release file; its relative URLs become URLs of this server. Returns "owner/dataset@release".

        Args:
            outcome: "SUCCEEDED" or "FAILED", once it has been PENDING for `polls` requests.
            sign: a signature to put on every relative URL, as private buckets have them.
            private: whether images lie in a customer's private bucket, where the API signs each URL that is asked for.
        """
        document = json.loads(path.read_text())
        root = self.mount(path.parent)
        if private:
            self._make_private(document["dataset"]["samples"], path.parent)
        _make_absolute(document["dataset"]["samples"], root, f"?X-Amz-Signature={sign}" if sign else "")
        with self.platform.lock:
            release: Release = self.platform.add_round(document, outcome=outcome, polls=polls)
        return f"{document['dataset']['owner']}/{document['dataset']['name']}@{release.name}"

    def _make_private(self, samples: list[Any], folder: Path) -> None:
        root = self.mount(folder)
        self.bucket.private.add(urlsplit(root).path.strip("/"))
        for sample in samples:
            _make_absolute(sample["attributes"], root, "")


def _make_absolute(value: Any, root: str, query: str) -> None:
    """Every relative "url" inside `value` becomes one under `root`."""
    if isinstance(value, dict):
        url = value.get("url")
        if isinstance(url, str) and url and "://" not in url:
            value["url"] = root + url.removeprefix("./") + query
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _make_absolute(inner, root, query)


def _add_controls(app: Flask, server: LoopbackSegments) -> None:
    """What a test does by calling methods, for a walk by hand."""

    @app.post("/-/rounds")
    def _round() -> Response:
        return jsonify(server.add_round(Path(json.loads(request.get_data())["release"])))

    @app.post("/-/faults")
    def _fault() -> Response:
        return jsonify(vars(server.faults.add(**json.loads(request.get_data()))))

    @app.post("/-/people")
    def _person() -> Response:
        wanted = json.loads(request.get_data())
        person, method = Person(server.platform, wanted.get("name", "jane")), wanted.get("before", "")
        if method:
            person.comes(method, wanted["sample"], status=wanted["status"])
        else:
            person.touch(wanted["sample"], status=wanted["status"])
        return jsonify(wanted)

    @app.get("/-/log")
    def _log() -> Response:
        return jsonify([vars(r) for r in server.log])


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.loopback.segments", description=__doc__.partition("\n")[0])
    parser.add_argument("--release-dir", type=Path, action="append", default=[], help="folder of release-*.json")
    parser.add_argument("--port", type=int, default=8931, help="of the storage")
    parser.add_argument("--api-port", type=int, default=8930)
    args = parser.parse_args()
    with LoopbackSegments(port=args.port, api_port=args.api_port) as server:
        for folder in args.release_dir:
            server.mount(folder, folder.resolve().name)
            for path in sorted(folder.glob("release-*.json")) or sorted(folder.glob("release*.json")):
                print(f"# {server.add_round(path)}", flush=True)
        print(f"export SEGMENTS_API_URL={server.url} SEGMENTS_API_KEY={KEY}", flush=True)
        until_interrupted()


if __name__ == "__main__":
    main()
