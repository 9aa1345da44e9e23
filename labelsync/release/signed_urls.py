"""Signed URLs for the images of a customer's private bucket, asked of Segments.ai one by one."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from labelsync.errors import AssetError, LabelsyncError
from labelsync.release.client import Client, api_url, connect, sorted_error
from labelsync.release.urls import asset_key

_AT_ONCE = 4  # calls to the API, which limits them


class SignedUrls:
    """Signs the image URLs of a customer's private bucket, by asking Segments.ai for the sample: `signed(url)`.

    One call per image, or per sequence, and a few at a time; the API's 429s are waited for as everywhere. It connects
    when first asked.
    The bitmaps of labels need none: they lie in the bucket of Segments.ai.
    """

    def __init__(self, samples: Mapping[str, str]) -> None:
        """`samples` = URL of each image -> uuid of its sample."""
        self._samples = samples
        self._images = Counter(samples.values())
        self._asking = {uuid: threading.Lock() for uuid in self._images}
        self._answers: dict[str, Any] = {}  # of sequences
        self._url = api_url()
        self._client: Client | None = None
        self._connecting = threading.Lock()
        self._calls = threading.BoundedSemaphore(_AT_ONCE)

    def __enter__(self) -> "SignedUrls":
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def __call__(self, url: str) -> str:
        """A URL that opens the image at `url` for some hours. It is a secret.

        Raises:
            LabelsyncError: there is none, or the platform does not answer.
        """
        if url not in self._samples:
            raise AssetError("it is the image of no sample")
        uuid = self._samples[url]
        with self._asking[uuid]:  # the frames of a sequence wait for one answer
            if uuid not in self._answers:
                attributes = self._ask(uuid)
                if self._images[uuid] > 1:
                    self._answers[uuid] = attributes
            else:
                attributes = self._answers[uuid]
        signed = _signed(attributes, asset_key(url))
        if signed is None or urlsplit(signed).scheme not in ("http", "https"):
            raise AssetError("its sample has none")
        return signed

    def _ask(self, uuid: str) -> Any:
        """The attributes of a sample as plain data, each url with its signed_url beside it."""
        with self._calls:
            try:
                sample: Any = self._connected().get_sample(quote(uuid, safe=""), include_signed_url=True)
            except LabelsyncError:
                raise
            except Exception as e:  # noqa: BLE001
                raise sorted_error(e, self._url) from None
        return None if sample.attributes is None else sample.attributes.model_dump()

    def _connected(self) -> Client:
        with self._connecting:
            if self._client is None:
                self._client = connect(self._url)
            return self._client


def _signed(value: Any, key: str) -> str | None:
    """The signed_url beside the url that means `key`, anywhere inside a sample's attributes.

    Another url there is another image: the sample was changed after the release.
    """
    if isinstance(value, dict):
        url, signed = value.get("url"), value.get("signed_url")
        if isinstance(url, str) and isinstance(signed, str) and asset_key(url) == key:
            return signed
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for v in inner if (found := _signed(v, key)) is not None), None)
