"""What `select` returns."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ChosenImage:
    """An image that was chosen, and why.

    Attributes:
        name: what `add_images` calls it.
        source: the file, or the video.
        frame: its number in the video, from 0; None for a file.
        uncertainty: how unsure the model is of it, 0..1 by the strategy's measure; None without one.
    """

    name: str
    source: str
    frame: int | None = None
    uncertainty: float | None = None


@dataclass(frozen=True)
class SelectRecord:
    """`select`: the images that are worth labeling, the first first.

    Attributes:
        path: folder with the list and the images, "" if none was asked for.
        images: how many could be read and were looked at.
        failed: image or video -> why it could not be read.
        unchanged: `path` held this very choice already.
    """

    path: str
    model: str
    strategy: str
    images: int
    chosen: tuple[ChosenImage, ...]
    failed: dict[str, str] = field(default_factory=dict)
    unchanged: bool = False
