"""What the verbs return and their commands print."""

from dataclasses import dataclass, field
from typing import Literal

from labelsync.records.scores import GateResult, SafetyScores, SliceScores


@dataclass(frozen=True)
class PullRecord:
    """`pull`: a release folder. `fetched`/`reused` count assets, `bytes_fetched` what came over the network."""

    path: str
    release: str
    dataset: str
    samples: int
    outcomes: dict[str, int]
    fetched: int
    reused: int
    bytes_fetched: int
    digest: str
    unchanged: bool = False


@dataclass(frozen=True)
class CacheRecord:
    """`cache`: images and bitmaps on disk. `unused` = files that no release folder links.

    `oldest`, `newest` = days of last use ("2026-11-21", "" if there is nothing); `removable` = files that were chosen,
    `removed` = those that went; `damaged` = files that were not what they should be, None if not looked for.
    """

    path: str
    files: int
    bytes: int
    unused: int
    unused_bytes: int
    oldest: str
    newest: str
    removable: int
    removable_bytes: int
    removed: int
    removed_bytes: int
    damaged: int | None = None


@dataclass(frozen=True)
class ConvertRecord:
    """`convert`: a dataset folder.

    `splits` = rows per split, `bytes` = size of the data files, `pixel_shares` = class name -> its share of the
    labelled pixels, `undrawn` = type of shape -> annotations that touch no pixel. Of this run: `reused` = rows taken
    over from the earlier round, `linked` = shards of which all rows were, `decoded` = samples whose files were read.
    """

    path: str
    release: str
    dataset: str
    num_labels: int
    samples: int
    outcomes: dict[str, int]
    splits: dict[str, int]
    shards: int
    bytes: int
    pixel_shares: dict[str, float]
    digest: str
    reused: int = 0
    linked: int = 0
    decoded: int = 0
    unchanged: bool = False
    undrawn: dict[str, int] = field(default_factory=dict)


Fate = Literal["new", "changed", "deleted", "kept"]


@dataclass(frozen=True)
class PushRecord:
    """`push`: one commit and a tag, or what they would be (`dry_run`).

    `commit` = the one that holds all of it, "" in a dry run that would make one. `files` = path -> what becomes of it;
    `added` counts the new and the changed, `uploaded` = their bytes, of which Xet sends those that the Hub has not yet.
    `unchanged` = nothing to send or delete.
    `request` = page of the pull request that waits to be merged. `rows` per split and `decoded` images were read back.
    """

    repo_id: str
    repo_type: str
    revision: str
    commit: str
    tag: str
    url: str
    files: dict[str, Fate]
    added: int
    deleted: int
    kept: int
    uploaded: int
    rows: dict[str, int]
    decoded: int
    request: str = ""
    unchanged: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class VerifyRecord:
    """`verify`: a publication that is what its manifest says.

    `files` = files compared by digest, `other` = files of the repo that are not labelsync's; of a dataset `rows` per
    split and `decoded` images, of a model `tensors` and `parameters`. `fetched` = bytes that came over the network.
    """

    repo_id: str
    repo_type: str
    revision: str
    commit: str
    digest: str
    release: str
    files: int
    other: int
    bytes: int
    rows: dict[str, int]
    decoded: int
    tensors: int
    parameters: int
    fetched: int


@dataclass(frozen=True)
class RecipeRecord:
    """`show-recipe`: a recipe as it takes effect.

    `knobs` = name -> value as TOML writes it, those of a table as "augment.flip"; `toml` = a recipe file that says the
    same, with a comment on each.
    """

    recipe: str
    knobs: dict[str, str]
    toml: str


@dataclass(frozen=True)
class TrainRecord:
    """`train`: a model folder. `mean_iou` is the kept best model's on the validation split.

    `head` = what became of the class head: "fresh", "kept", or "7 of 12 classes carried over".
    """

    path: str
    model: str
    dataset: str
    dataset_digest: str
    num_labels: int
    head: str
    parameters: int
    steps: int
    epochs: float
    best_step: int
    mean_iou: float | None
    train_loss: float
    seconds: float
    digest: str


@dataclass(frozen=True)
class EvaluateRecord:
    """`evaluate`: an evaluation folder. Scores are pooled over all labelled pixels; None = class absent.

    `intervals` = figure, as gates name it ("mean_iou", "iou.road") -> 95 % bootstrap interval, `resampled` says of
    what; `slices` = slicing -> value -> scores; `boundary_width` = band of the boundary IoU as a share of the diagonal;
    `safety` is None where the classes are none of a sidewalk and no others were grouped; `lacking` = classes that the
    model does not know, with `--align`; `flip`, `scales`, `window` = how images were looked at; `left_out` = images of
    the split beyond `--limit`.
    """

    path: str
    model: str
    dataset: str
    dataset_digest: str
    split: str
    images: int
    pixels: int
    mean_iou: float | None
    mean_accuracy: float | None
    overall_accuracy: float | None
    per_category_iou: dict[str, float | None]
    per_category_accuracy: dict[str, float | None]
    frequency_weighted_iou: float | None
    mean_dice: float | None
    per_category_dice: dict[str, float | None]
    mean_boundary_iou: float | None
    per_category_boundary_iou: dict[str, float | None]
    boundary_width: float
    expected_calibration_error: float | None
    intervals: dict[str, tuple[float, float]]
    resampled: str
    seconds: float
    digest: str
    slices: dict[str, dict[str, SliceScores]] = field(default_factory=dict)
    safety: SafetyScores | None = None
    lacking: tuple[str, ...] = ()
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: str | None = None
    left_out: int = 0
    gates: tuple[GateResult, ...] = ()
    unchanged: bool = False


@dataclass(frozen=True)
class VideoScores:
    """How much the classes of a video flicker, in shares of pixels; None where there was nothing to compare.

    `changed` = pixels of another class than in the frame before; `flicker` = the same, of those pixels alone that look
    as they did, where nothing in the image accounts for it.
    """

    frames: int
    flicker: float | None
    changed: float | None


@dataclass(frozen=True)
class ReportRecord:
    """`report`: one HTML file, its size and its sha256."""

    path: str
    evaluation: str
    bytes: int
    digest: str
    gates: tuple[GateResult, ...] = ()
    unchanged: bool = False


@dataclass(frozen=True)
class PredictRecord:
    """`predict`: bitmaps and overlays of `images` images and frames; `failed` = file -> reason.

    `precision` = what the model computed in, `resumed` = images that an interrupted run had done already, `videos` =
    file -> how much it flickers.
    """

    path: str
    model: str
    images: int
    failed: dict[str, str]
    seconds: float
    precision: str = "fp32"
    resumed: int = 0
    videos: dict[str, VideoScores] = field(default_factory=dict)
    unchanged: bool = False


@dataclass(frozen=True)
class DemoRecord:
    """`demo`: the records of its stages and the seconds each took."""

    path: str
    pull: PullRecord
    convert: ConvertRecord
    train: TrainRecord
    evaluate: EvaluateRecord
    report: ReportRecord
    predict: PredictRecord
    seconds: dict[str, float]
