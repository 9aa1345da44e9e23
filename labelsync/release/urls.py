"""URLs without their secrets: as errors and ledgers show them, and as the name of what lies there."""

import re
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# What storage services add to a URL to sign it; the rest of a query names the asset.
_SIGNATURE = re.compile(r"x-amz-.*|x-goog-.*|response-content-.*", re.IGNORECASE)
_SIGNED_BY = {  # plain words, which count as a signature only beside the one that signs
    "signature": {"signature", "expires", "policy", "key-pair-id", "awsaccesskeyid", "googleaccessid"},
    "sig": {"sig", "se", "sp", "sv", "sr", "st", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"},
}

# A URL as they nearly always are: no user, no fragment, nothing that another spelling could stand for.
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.-]+(?::[1-9][0-9]{0,3})?/[!-\"$->@-~]*)(?:\?([!-\"$-~]*))?")


def is_plain(url: str) -> bool:
    """Whether a URL is beyond doubt one of http or https with a host; one that is not may be one."""
    return _PLAIN.fullmatch(url) is not None


def asset_key(url: str) -> str:
    """What an asset is called whatever signature its URL carries today: the URL without the signing parameters.

    In a bucket (s3://, gs://, az://) nothing is signed, and "?" and "#" are characters of a name like others.

    Raises:
        ValueError: not a URL.
    """
    plain = _PLAIN.fullmatch(url)
    if plain is not None:  # a pull asks this twice of every URL
        base, query = plain.groups()
        if not query or _only_sign(tuple([pair.partition("=")[0] for pair in query.split("&")])):
            return str(base)
    return _key_by_parts(url)


@lru_cache(maxsize=256)  # one service signs every URL of a release with the same words
def _only_sign(names: tuple[str, ...]) -> bool:
    """Whether every parameter of a query signs; False for names that are not spelt plainly."""
    plain = all(name.replace("-", "").isalnum() and name.isascii() for name in names)
    return plain and not _that_stay([(name, "") for name in names])


def _key_by_parts(url: str) -> str:
    """`asset_key` of any URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    kept = _that_stay(parse_qsl(parts.query, keep_blank_values=True))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(kept), ""))


def _that_stay(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters that sign nothing."""
    names = {k.lower() for k, _ in query}
    signing = {word for signer, words in _SIGNED_BY.items() if signer in names for word in words}
    return [(k, v) for k, v in query if k.lower() not in signing and not _SIGNATURE.fullmatch(k)]


def shown(url: str) -> str:
    """A URL as errors and ledgers show it: no user, no query, no control characters, not endless."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        text = urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        text = "an unreadable URL"
    return "".join(c if c.isprintable() else "?" for c in text[:200])
