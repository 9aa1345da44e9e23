"""What `export` returns, and export.json holds."""

from dataclasses import dataclass, field

from labelsync.records.scores import GateResult


@dataclass(frozen=True)
class Latency:
    """One way to run the model on this machine: milliseconds for one image, and images a second in batches."""

    p50_ms: float
    p95_ms: float
    images_per_second: float


@dataclass(frozen=True)
class ExportRecord:
    """`export`: an ONNX file and how it does beside the model it was made from.

    `digest`, `bytes` = of the file; `dynamic` = axes of the input that may vary. `agreement` = share of the pixels of
    `images` images ("the test split of walk", "3 images given", "12 drawn scenes": `measured_on`) that both put into
    one class; `mean_iou` and `torch_mean_iou` are None without labels. `latency` = "torch" and "onnx" -> times of
    `runs` calls each, in turn, on `threads` threads of `device`, empty if not measured; `batch_size` = of the
    throughput.
    `calibrated_on` = images that set the ranges of an int8 file; `gates` = the tolerance first, then those stated.
    """

    path: str
    model: str
    model_digest: str
    digest: str
    bytes: int
    precision: str
    takes: str
    gives: str
    opset: int
    dynamic: tuple[str, ...]
    size_hw: tuple[int, int]
    num_labels: int
    images: int
    measured_on: str
    agreement: float
    worst_image: str
    worst_agreement: float
    tolerance: float = 0.0
    mean_iou: float | None = None
    torch_mean_iou: float | None = None
    latency: dict[str, Latency] = field(default_factory=dict)
    runs: int = 0
    batch_size: int = 1
    threads: int = 1
    device: str = "cpu"
    calibrated_on: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    gates: tuple[GateResult, ...] = ()
    unchanged: bool = False
