"""Xet on a loopback Hub: a small content-addressed store, enough for the unmodified hf_xet to upload to and read from.

The formats are those of https://huggingface.co/docs/xet: a xorb is a row of chunks, a shard says of which chunks of
which xorbs a file is made. A file counts as uploaded when it could be put together and its sha256 is the one that the
shard says; it then lies beside the LFS objects. Hashes of chunks, xorbs and files are the client's own (BLAKE3 trees);
they are names here, and what they name is held against the sha256.

Unlike the real one: no upload grants and no second shard API (the client asks and goes on with the first), answers to
"who has this chunk" have no HMAC, nothing is ever collected.
"""

import hmac
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
import numpy as np
import pyarrow as pa

from tests.loopback.hub_access import KINDS, WHERE, readable, writable
from tests.loopback.hub_repos import HubError

if TYPE_CHECKING:
    from tests.loopback.hub import LoopbackHub

_TAG = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
_END = b"\xff" * 32 + bytes(16)  # of a section of a shard
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30
_SECONDS = 3600  # that a token is good for


@dataclass(frozen=True)
class Term:
    """A part of a file: chunks start..end-1 of a xorb, `size` bytes together."""

    xorb: str
    start: int
    end: int
    size: int


def name_of(digest: bytes) -> str:
    """How hashes are written: as four little-endian numbers."""
    return "".join(f"{n:016x}" for n in struct.unpack("<4Q", digest))


class Chunks:
    """The contents under one folder: xorbs, and of which of their chunks files are made."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for kind in ("xorbs", "blocks", "chunks", "files", "named"):
            (root / kind).mkdir(parents=True, exist_ok=True)

    def xorb(self, xorb: str) -> Path:
        """The file of a xorb."""
        return self._root / "xorbs" / xorb

    def file(self, name: str) -> list[Term]:
        """The parts of a file."""
        path = self._root / "files" / name
        if not path.is_file():
            raise HubError(404, "No such file")
        return [Term(*term) for term in json.loads(path.read_text())]

    def named(self, sha256: str) -> str:
        """The Xet name of the file with that digest, "" if it did not come by Xet."""
        path = self._root / "named" / sha256
        return path.read_text() if path.is_file() else ""

    def known(self, chunk: str) -> bytes:
        """A shard that lists the xorb that has the chunk."""
        path = self._root / "chunks" / chunk
        if not path.is_file():
            raise HubError(404, "No such chunk")
        return _answer((self._root / "blocks" / path.read_text()).read_bytes())

    def add_shard(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """(sha256, content) of every file of a shard; each is known once it has been taken."""
        entries = iter([data[at : at + 48] for at in range(48, len(data), 48)])
        for head in iter(lambda: next(entries), _END):
            flags, count = struct.unpack_from("<II", head, 32)
            terms = [self._term(entry) for entry in islice(entries, count)]
            list(islice(entries, count if flags & _VERIFIED else 0))
            if not flags & _WITH_SHA256:
                raise HubError(400, "A file of the shard has no sha256")
            sha256 = name_of(next(entries)[:32])
            yield sha256, b"".join(map(self.read, terms))
            (self._root / "files" / name_of(head[:32])).write_text(json.dumps([list(vars(t).values()) for t in terms]))
            (self._root / "named" / sha256).write_text(name_of(head[:32]))
        for head in iter(lambda: next(entries), _END):
            block = [head, *islice(entries, struct.unpack_from("<I", head, 36)[0])]
            (self._root / "blocks" / name_of(head[:32])).write_bytes(b"".join(block))
            for entry in block[1:]:
                (self._root / "chunks" / name_of(entry[:32])).write_text(name_of(head[:32]))

    def _term(self, entry: bytes) -> Term:
        _, size, start, end = struct.unpack_from("<4I", entry, 32)
        return Term(name_of(entry[:32]), start, end, size)

    def read(self, term: Term) -> bytes:
        """The bytes of a part."""
        path = self.xorb(term.xorb)
        if not path.is_file():
            raise HubError(400, f"The xorb {term.xorb} is not there")
        data = b"".join(_unpacked(path.read_bytes(), *spot) for spot in self.spots(term.xorb)[term.start : term.end])
        if len(data) != term.size:
            raise HubError(400, f"The chunks are {len(data)} bytes and should be {term.size}")
        return data

    def spots(self, xorb: str) -> list[tuple[int, int]]:
        """(first byte, byte behind the last one) of every chunk of a xorb, heads included; a footer may follow them."""
        data = self.xorb(xorb).read_bytes()
        found, at = [], 0
        while at + 8 <= len(data) and data[at] == 0:
            end = at + 8 + int.from_bytes(data[at + 1 : at + 4], "little")
            found.append((at, end))
            at = end
        return found


def _unpacked(xorb: bytes, start: int, end: int) -> bytes:
    """A chunk: as it is, LZ4, or LZ4 of its bytes 0 4 8 .. 1 5 9 .. 2 6 10 .. 3 7 11 .."""
    kind, size = xorb[start + 4], int.from_bytes(xorb[start + 5 : start + 8], "little")
    data = xorb[start + 8 : end]
    if kind == 0:
        return data
    plain = pa.Codec("lz4").decompress(data, size).to_pybytes()
    if kind == 1:
        return bytes(plain)
    order = np.argsort(np.arange(size) % 4, kind="stable")
    out = np.empty(size, np.uint8)
    out[order] = np.frombuffer(plain, np.uint8)
    return out.tobytes()


def _answer(block: bytes) -> bytes:
    """A shard of no file and one xorb, with the footer that the client looks for; it lists nothing by hash."""
    body = struct.pack("<32sQQ", _TAG, 2, 200) + _END + block + _END
    now, end = int(time.time()), len(body)
    return body + struct.pack("<3Q6Q32xQQ72xQ", 1, 48, 96, end, 0, end, 0, end, 0, now, now + _SECONDS, end)


# -------------------------------------------------------------------- routes


def add_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    """Of the Hub: whoever may write to a repo, or read it, gets a token for the store, which is no Hub token."""

    @app.get(f"{WHERE}/xet-<any(read, write):scope>-token/<segment:revision>")
    def token(kinds: str, owner: str, name: str, scope: str, revision: str) -> Any:
        if scope == "write":
            writable(hub, KINDS[kinds], owner, name, revision=revision)
        else:
            readable(hub, KINDS[kinds], owner, name)
        until, text = int(time.time()) + _SECONDS, f"{scope}.{hub.signature(scope, 'xet')}"
        answer = flask.jsonify(accessToken=text, exp=until, casUrl=hub.storage_url)
        for header, value in (("Access-Token", text), ("Token-Expiration", until), ("Cas-Url", hub.storage_url)):
            answer.headers["X-Xet-" + header] = str(value)
        return answer


def add_storage_routes(app: flask.Flask, hub: "LoopbackHub") -> None:
    """Of the storage: xorbs and shards come in, parts of xorbs go out."""

    def check(*scopes: str) -> None:
        scope, _, signature = flask.request.headers.get("Authorization", "").removeprefix("Bearer ").partition(".")
        if scope not in scopes or not hmac.compare_digest(signature, hub.signature(scope, "xet")):
            raise HubError(401, "No token of this store")

    @app.post("/v1/xorbs/default/<xorb>")
    def put_xorb(xorb: str) -> Any:
        check("write")
        is_new = not hub.chunks.xorb(xorb).is_file()
        hub.chunks.xorb(xorb).write_bytes(flask.request.get_data())
        return {"was_inserted": is_new}

    @app.post("/v1/shards")
    def put_shard() -> Any:
        check("write")
        with hub.store.lock:
            for sha256, content in hub.chunks.add_shard(flask.request.get_data()):
                hub.store.put_lfs(sha256, BytesIO(content))
        return {"result": 1}

    @app.get("/v1/chunks/<any('default', 'default-merkledb'):_prefix>/<chunk>")
    def who_has(_prefix: str, chunk: str) -> Any:
        check("read", "write")
        return flask.Response(hub.chunks.known(chunk), mimetype="application/octet-stream")

    @app.route("/v2/<path:_path>", methods=["GET", "POST"])
    def not_yet(_path: str) -> Any:
        raise HubError(501, "Not implemented")

    @app.get("/v1/reconstructions/<name>")
    def file(name: str) -> Any:
        check("read", "write")
        return _reconstruction(hub, hub.chunks.file(name), flask.request.range)

    @app.get("/xorbs/<xorb>")
    def xorb_bytes(xorb: str) -> Any:
        if not hmac.compare_digest(flask.request.args.get("X-Amz-Signature", ""), hub.signature("GET", xorb)):
            raise HubError(403, "The request signature does not match")
        path = hub.chunks.xorb(xorb).absolute()
        return flask.send_file(path, mimetype="application/octet-stream", conditional=True)


def _reconstruction(hub: "LoopbackHub", terms: list[Term], wanted: Any) -> dict[str, Any]:
    """What to fetch for a file, or for a range of its bytes."""
    total = sum(t.size for t in terms)
    first, behind = wanted.range_for_length(total) or (total, total) if wanted else (0, total)
    if total and first >= total:
        raise HubError(416, "The file ends before that")
    chosen, skipped, at = [], 0, 0
    for term in terms:
        if at < behind and at + term.size > first:
            skipped = skipped if chosen else first - at
            chosen.append(term)
        at += term.size
    fetch: dict[str, list[dict[str, Any]]] = {}
    for term in chosen:
        spots = hub.chunks.spots(term.xorb)
        url = f"{hub.storage_url}/xorbs/{term.xorb}?X-Amz-Signature={hub.signature('GET', term.xorb)}"
        part = {"start": term.start, "end": term.end}
        where = {"start": spots[term.start][0], "end": spots[term.end - 1][1] - 1}
        fetch.setdefault(term.xorb, []).append({"range": part, "url": url, "url_range": where})
    listed = [{"hash": t.xorb, "unpacked_length": t.size, "range": {"start": t.start, "end": t.end}} for t in chosen]
    return {"offset_into_first_range": max(skipped, 0), "terms": listed, "fetch_info": fetch}
