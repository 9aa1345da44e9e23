"""URLs without their secrets: as errors and ledgers show them, and as the name of what lies there."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# What storage services add to a URL to sign it; the rest of a query names the asset.
_SIGNATURE = re.compile(r"x-amz-.*|x-goog-.*|response-content-.*", re.IGNORECASE)
_SIGNED_BY = {  # plain words, which count as a signature only beside the one that signs
    "signature": {"signature", "expires", "policy", "key-pair-id", "awsaccesskeyid", "googleaccessid"},
    "sig": {"sig", "se", "sp", "sv", "sr", "st", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"},
}


def asset_key(url: str) -> str:
    """What an asset is called whatever signature its URL carries today: the URL without the signing parameters.

    In a bucket (s3://, gs://, az://) nothing is signed, and "?" and "#" are characters of a name like others.

    Raises:
        ValueError: not a URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = {k.lower() for k, _ in query}
    signing = {word for signer, words in _SIGNED_BY.items() if signer in names for word in words}
    kept = [(k, v) for k, v in query if k.lower() not in signing and not _SIGNATURE.fullmatch(k)]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(kept), ""))


def shown(url: str) -> str:
    """A URL as errors and ledgers show it: no user, no query, no control characters, not endless."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        text = urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        text = "an unreadable URL"
    return "".join(c if c.isprintable() else "?" for c in text[:200])
