"""The people of a loopback Segments.ai: they open, label, review and delete while a program writes labels.

jane = Person(server.platform, "jane")
jane.touch(uuid, status="LABELED")                          now
jane.comes("PUT", uuid, status="LABELING_IN_PROGRESS")      right before the next PUT of that label is answered
jane.comes("GET", uuid, skip=1, then=jane.delete)           before the second GET from now
"""

import re
from collections.abc import Callable
from typing import Any

from tests.loopback.segments_state import GROUND_TRUTH, Platform

DRAWN = {
    "format_version": "0.1",
    "annotations": [{"id": 7, "track_id": 7, "category_id": 1, "attributes": {"occluded": True}}],
    "segmentation_bitmap": {"url": "http://127.0.0.1:9/by-hand.png"},
}


class Person:
    """Somebody with an account of their own."""

    def __init__(self, platform: Platform, name: str = "jane") -> None:
        self.platform, self.name = platform, name

    def touch(self, key: str, *, status: str = "LABELED", attributes: Any = DRAWN, labelset: str = GROUND_TRUTH) -> Any:
        """Save a label; `attributes` None leaves those that are there, or saves none, as an editor just opened."""
        with self.platform.lock:
            _, sample = self.platform.sample(key)
            old = sample.labels.get(labelset) or {}
            attributes = old.get("attributes") if attributes is None else attributes
            given = {"label_status": status, "attributes": attributes, "score": old.get("score")}
            return self.platform.put_label(key, labelset, given, by=self.name)

    def delete(self, key: str, *, labelset: str = GROUND_TRUTH) -> None:
        """Delete a label."""
        with self.platform.lock:
            self.platform.sample(key)[1].labels.pop(labelset, None)

    def comes(
        self, method: str, key: str, *, skip: int = 0, then: Callable[..., Any] | None = None, **how: Any
    ) -> None:
        """Touch a label (or do `then`) once, before the request `method` for it is answered; `skip` of them pass."""
        left = [skip]

        def act(asked: str, path: str) -> None:
            if asked == method and re.fullmatch(rf"/labels/{key}/[^/]+/", path):
                if left[0]:
                    left[0] -= 1
                    return
                self.platform.before.remove(act)
                (then or self.touch)(key, **how)

        self.platform.before.append(act)
