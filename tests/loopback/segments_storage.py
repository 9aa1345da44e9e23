"""The bucket of a loopback Segments.ai: release files, assets, uploads by presigned form.

It refuses a request that carries a key, because S3 does, and because a key has no business there.
"""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request, send_file

from tests.loopback.segments_state import Platform

FORM = ("acl", "Content-Type", "key", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "policy", "x-amz-signature")


class Bucket:
    """Files of the storage server: uploaded objects by key, folders by their first path segment.

    What is in a `private` folder is shown only to who has one of the `signatures`.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.folders: dict[str, Path] = {}
        self.private: set[str] = set()
        self.signatures: set[str] = set()

    def sign(self, url: str) -> str | None:
        """A new signed URL for an URL in a private folder, None for others."""
        if urlsplit(url).path.split("/")[1] in self.private:
            signature = secrets.token_hex(16)
            self.signatures.add(signature)
            return f"{url}?X-Amz-Signature={signature}"
        return None


def storage_app(platform: Platform, bucket: Bucket) -> Flask:
    """The bucket: GET of files, POST of uploads by presigned form."""
    app = Flask(__name__)

    @app.before_request
    def _refuse_keys() -> None:
        if "Authorization" in request.headers:
            abort(400, "Only one auth mechanism allowed")

    @app.post("/")
    def _upload() -> tuple[str, int]:
        if set(FORM) - set(request.form) or "file" not in request.files:
            abort(403, "the form lacks a signed field")
        if request.form["key"] not in platform.upload_keys:
            abort(403, "the signature is of another key")
        bucket.objects[request.form["key"]] = request.files["file"].read()
        return "", 204  # S3 answers nothing; the SDK takes any body but JSON for a failure

    @app.get("/releases/<key>.json")
    def _release_file(key: str) -> Response:
        with platform.lock:
            files = {r.uuid: r.data for d in platform.datasets.values() for r in d.releases.values()}
        return Response(files[key], mimetype="application/json") if key in files else abort(403)

    @app.get("/<folder>/<path:rest>")
    def _file(folder: str, rest: str) -> Response:
        if folder in bucket.private and request.args.get("X-Amz-Signature") not in bucket.signatures:
            abort(403)
        if (data := bucket.objects.get(f"{folder}/{rest}")) is not None:
            return Response(data, mimetype="application/octet-stream")
        root = bucket.folders.get(folder)
        path = root.joinpath(rest).resolve() if root else None
        if root is None or path is None or not path.is_relative_to(root.resolve()) or not path.is_file():
            abort(403)  # S3 tells nobody without the right to list what is not there
        return send_file(path)

    return app
