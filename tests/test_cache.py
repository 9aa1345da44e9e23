"""The asset cache: one content once, whatever signature its URL carries today."""

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labelsync.release.cache import AssetCache
from labelsync.release.folder import release_digest
from labelsync.release.urls import asset_key
from labelsync.store.files import digest_of, sha256, sha256_file
from labelsync.store.manifest import FileEntry

AWS = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20240101T000000Z&X-Amz-Signature=abc"


@pytest.mark.parametrize(
    "query",
    [
        AWS,
        AWS.lower(),
        "AWSAccessKeyId=A&Expires=1&Signature=s",
        "GoogleAccessId=a&Expires=1&Signature=s",
        "X-Goog-Algorithm=a&X-Goog-Signature=s",
        "Policy=p&Signature=s&Key-Pair-Id=k",
        "sv=2024-01-01&st=1&se=2&sr=b&sp=r&sig=s",
    ],
)
def test_a_new_signature_is_the_same_asset(query):
    url = "https://bucket.example/a/b.png"
    assert asset_key(f"{url}?{query}#part") == url
    assert asset_key(f"{url}?id=3&{query}") == f"{url}?id=3"


@pytest.mark.parametrize(
    "other",
    [
        "https://bucket.example/a/c.png?id=1",
        "https://other.example/a/b.png?id=1",
        "http://bucket.example/a/b.png?id=1",
        "https://bucket.example/a/b.png?id=2",
        "https://bucket.example/a/b.png?id=1&st=7",  # a plain word where nothing is signed
        "https://bucket.example/a/b.png?id=1&policy=strict",
        "https://bucket.example/a/b.png?id=",
        "https://bucket.example/a/b.png",
    ],
)
def test_another_name_is_another_asset(other):
    assert asset_key(other) != asset_key(f"https://bucket.example/a/b.png?id=1&{AWS}")


def test_an_asset_is_found_under_its_next_signature(tmp_path):
    cache = AssetCache(tmp_path)
    added = cache.add("https://x/a.png?X-Amz-Signature=1", b"bytes")
    assert cache.find("https://x/a.png?X-Amz-Signature=2") == added
    assert added.path.read_bytes() == b"bytes"
    assert added.entry == FileEntry(sha256(b"bytes"), 5) and added.path.name == added.entry.sha256
    assert cache.find("https://x/b.png") is None


def test_equal_bytes_of_two_urls_are_kept_once(tmp_path):
    cache = AssetCache(tmp_path)
    assert cache.add("https://x/a.png", b"same") == cache.add("https://x/b.png", b"same")
    assert cache.add("https://x/c.png", b"other") != cache.find("https://x/a.png")
    assert len(list((tmp_path / "objects").rglob("*"))) == 4  # two of them, each in a folder


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "entry cut", "entry of another kind"])
def test_a_damaged_asset_is_as_good_as_not_there(tmp_path, damage):
    cache = AssetCache(tmp_path)
    added = cache.add("https://x/a.png", b"bytes")
    blob = added.path
    (entry,) = (tmp_path / "urls").rglob("*.json")
    blob.chmod(0o644)
    match damage:
        case "cut":
            blob.write_bytes(b"by")
        case "changed":
            blob.write_bytes(b"BYTES")
            os.utime(blob, ns=(0, 0))  # whatever the clock's steps
        case "gone":
            blob.unlink()
        case "entry cut":
            entry.write_text('{"sha')
        case _:
            entry.write_text("[1]")
    assert cache.find("https://x/a.png") is None
    assert cache.add("https://x/a.png", b"bytes").path.read_bytes() == b"bytes"
    assert cache.find("https://x/a.png") == added


def test_only_what_was_written_since_is_hashed_when_it_is_found(tmp_path, monkeypatch):
    cache, hashed = AssetCache(tmp_path), []
    monkeypatch.setattr("labelsync.release.cache.sha256_file", lambda p: hashed.append(p) or sha256_file(p))
    added = cache.add("https://x/a.png", b"bytes")
    assert cache.find("https://x/a.png") == added and not hashed
    os.utime(added.path, ns=(0, 0))  # a copy of the cache elsewhere, or an earlier labelsync's, which kept no time
    assert cache.find("https://x/a.png") == added and hashed == [added.path]


def test_the_cache_holds_no_secret(tmp_path):
    AssetCache(tmp_path).add(f"https://me:password@x/a.png?token=secret&{AWS}", b"bytes")
    (entry,) = (tmp_path / "urls").rglob("*.json")
    assert json.loads(entry.read_text())["url"] == "https://x/a.png"


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELSYNC_CACHE", str(tmp_path / "mine"))
    assert AssetCache().root == tmp_path / "mine"
    monkeypatch.delenv("LABELSYNC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert AssetCache().root == tmp_path / "xdg/labelsync"


# -------------------------------------------------------------------- the digest of a release file

PARTS = st.sampled_from(
    [
        "http://h/a.png",
        "https://h/a.png",
        "?Signature=1&Expires=2",
        "?id=3",
        '"',
        "\\",
        ",",
        ":",
        "[",
        "é",
        "\ud800",
        " ",
    ]
)
TEXTS = st.lists(PARTS, max_size=5).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def unsigned(value):
    """Every value that is an http(s) URL without its signature, found by going through them all."""
    if isinstance(value, dict):
        return {k: unsigned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [unsigned(v) for v in value]
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        try:
            return asset_key(value)
        except ValueError:
            return value
    return value


@given(document=st.dictionaries(TEXTS, VALUES, max_size=5))
@example({"a": ['"http://h/a?Signature=1', "http://h/a?Signature=1", {"http://h/a?Signature=1": "x:"}]})
def test_a_releases_digest_is_blind_to_the_signatures_of_its_urls_and_to_nothing_else(document):
    assert release_digest(document, where="r") == digest_of(unsigned(document))
