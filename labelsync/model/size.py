"""Sizes as people write them."""

import re


def parse_sides(text: str) -> tuple[int, int] | None:
    """(height, width) from "512" (both) or "384x512"; None = it is neither."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    return (int(match[1]), int(match[2] or match[1])) if match else None
