"""`demo`: the whole loop on drawn scenes."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from labelsync.errors import OutputExists
from labelsync.records.results import DemoRecord
from labelsync.records.text import to_json
from labelsync.sidewalk.scenes import draw_release, flaws
from labelsync.store.files import write_text
from labelsync.store.folder import is_vacant, locked

SCENES = 120
FRACTIONS = (0.75, 0.1, 0.15)  # sixteen test images: with fewer, one odd scene decides the scores
RECORD = "demo.json"  # there from the start: what lies beside it may be deleted by --overwrite

# A SegFormer of 0.5 million parameters as transformers' config.json describes it; a folder without weights starts from
# random ones. One block a stage: on two cores, more steps are worth more than depth.
MODEL = {
    "model_type": "segformer",
    "architectures": ["SegformerForSemanticSegmentation"],
    "hidden_sizes": [16, 32, 80, 128],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [4, 4, 4, 4],
    "decoder_hidden_size": 64,
    "drop_path_rate": 0.0,
    "classifier_dropout_prob": 0.0,
}

# Ten evaluations of the validation split, each with its checkpoint; one an epoch would cost more than it finds.
EVALUATIONS = ("eval_strategy=steps", "eval_steps=0.1", "save_strategy=steps", "save_steps=0.1")


def demo(*, out: str | Path = Path("labelsync-demo"), seed: int = 0, overwrite: bool = False) -> DemoRecord:
    """Draw a labeling round of street scenes; pull, convert, train, evaluate, report and predict as for a real one.

    Offline and without a GPU, in two or three minutes on two cores. Leaves scenes/ (the drawn release), release/,
    dataset/, start/ (the model's config), model/, evaluation/, report.html and predictions/ in `out`, and demo.json,
    this record.
    The few samples that are drawn with a bitmap of the wrong size fail in the conversion; the ledger says so.

    Args:
        out: folder to leave.
        seed: of the scenes, the weights and the training.
        overwrite: replace an earlier demo at `out`.

    Raises:
        OutputExists: `out` is not empty, and `overwrite` is False or it is not a demo's.
        OutputLocked: another demo is running there.
    """
    out = Path(out)
    with locked(out.resolve()):
        _clear(out, overwrite=overwrite)
        write_text(out / RECORD, json.dumps({"seed": seed}) + "\n")
        record = _run(out, seed=seed)
        write_text(out / RECORD, to_json(record) + "\n")
    return record


def _run(out: Path, *, seed: int) -> DemoRecord:
    """The stages in order, each timed; a vendor that a stage is the first to import counts in its seconds."""
    clock = _Clock()
    with clock.stage("draw"):
        drawn = draw_release(out / "scenes", scenes=SCENES, seed=seed)
        write_text(out / "start" / "config.json", json.dumps(MODEL, indent=2) + "\n")
    with clock.stage("pull"):
        from labelsync.release.pull import pull

        pulled = pull(drawn, out=out / "release")
    with clock.stage("convert"):
        from labelsync.dataset.convert import convert

        lost = len(flaws(SCENES, seed).wrong_size)
        converted = convert(out / "release", out=out / "dataset", fractions=FRACTIONS, allow_failed=lost)
    with clock.stage("train"):
        from labelsync.training.finetune import train

        trained = train(
            out / "dataset", out=out / "model", model=out / "start", recipe="demo", seed=seed, set=EVALUATIONS
        )
    with clock.stage("evaluate"):
        from labelsync.evaluation.evaluate import evaluate

        evaluated = evaluate(out / "model", dataset=out / "dataset", out=out / "evaluation")
    with clock.stage("report"):
        from labelsync.evaluation.report import report

        reported = report(out / "evaluation", run=out / "model", dataset=out / "dataset", out=out / "report.html")
    with clock.stage("predict"):
        from labelsync.deploy.predict import predict

        images = _test_images(out / "release", out / "dataset")
        predicted = predict(out / "model", images=images, out=out / "predictions")
    return DemoRecord(
        path=str(out),
        pull=pulled,
        convert=converted,
        train=trained,
        evaluate=evaluated,
        report=reported,
        predict=predicted,
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds per stage, and on a terminal the name of the stage that runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        if sys.stderr.isatty():
            tqdm.write(f"labelsync demo: {name}", file=sys.stderr)
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)


def _test_images(release: Path, dataset: Path) -> tuple[str, ...]:
    """Image files of the test split, in its order."""
    from labelsync.dataset.load import load
    from labelsync.release.folder import open_release

    folder = open_release(release)
    samples = {sample.uuid: sample for sample in folder.release.samples}
    files = [folder.image(samples[row.uuid]) for row in load(dataset).splits["test"]]
    return tuple(str(file) for file in files if file is not None)


def _clear(out: Path, *, overwrite: bool) -> None:
    """Make room for a new demo. Raises OutputExists before anything is deleted that is not an earlier one."""
    if is_vacant(out):
        return
    if not overwrite:
        raise OutputExists(f"{out} exists", hint="choose another --out or pass --overwrite")
    if not (out / RECORD).is_file():
        raise OutputExists(f"{out} is not replaced: no demo has been there", hint="choose another --out, or delete it")
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
