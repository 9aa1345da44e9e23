"""`export`: a model as an ONNX file, and the proof that it says what the model says."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
import torch

from labelsync.dataset.load import load
from labelsync.deploy.asked import Settings, Subject, settings_of, subject_of
from labelsync.deploy.axes import require_axes
from labelsync.deploy.graph import Graph, graph_input, require_exporter, to_onnx
from labelsync.deploy.latency import Run, latencies
from labelsync.deploy.parity import Opener, opened, parity
from labelsync.deploy.precision import serialized, to_fp16, to_int8, with_metadata
from labelsync.deploy.proof import figures_of, leave, onnx_path, require_free, same_export, tolerance_gate
from labelsync.errors import ModelError
from labelsync.evaluation.evaluate import short_name
from labelsync.evaluation.gates import Gate, check_gates, read_gates, require_gates
from labelsync.model.load import load_model
from labelsync.model.loaded import LoadedModel, pick_device
from labelsync.model.onnx import Gives, GraphFacts, OnnxModel, Takes
from labelsync.model.source import locate
from labelsync.records.exports import ExportRecord
from labelsync.store.folder import locked
from labelsync.store.manifest import fingerprint


def export(
    model: str | Path,
    *,
    out: str | Path,
    takes: Takes = "normalized",
    gives: Gives = "logits",
    dynamic: Sequence[str] = ("batch",),
    opset: int = 18,
    quantize: str | None = None,
    fp16: bool = False,
    dataset: str | Path | None = None,
    split: str = "test",
    images: Sequence[str | Path] = (),
    limit: int = 100,
    tolerance: float | None = None,
    runs: int = 30,
    batch_size: int = 8,
    device: str | None = None,
    gate: Sequence[str] = (),
    gates: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id2label: str | Path | None = None,
    keep_zero: bool = False,
    config: str | None = None,
    overwrite: bool = False,
) -> ExportRecord:
    """Write a model as an ONNX file, compare the two on images, and time both on this machine.

    Leaves the file and, beside it, export.json: the record. The file's metadata say its classes (`id2label` and
    `colors` by disk id), its size, mean and std, and the digest of the model; `load_model`, `evaluate`, `predict` and
    `Segmenter` take it as a model. With takes="frames" and gives="classes" a robot needs no other code than
    onnxruntime: camera frames in, disk ids out.

    Args:
        model: a model folder or a Hub id "user/name[@revision]".
        out: the .onnx file to leave.
        takes: "normalized" (N, 3, h, w) float32; "pixels", the same as uint8 RGB before it is normalised; or "frames",
            (N, H, W, 3) uint8 RGB of any size.
        gives: "logits" as small as the model gives them; "upsampled" to the size of the input; or "classes", disk ids
            at the size of the input.
        dynamic: axes of the input that may vary: "batch", "size" (of frames always), or "none".
        opset: version of ONNX's operators.
        quantize: "int8": convolutions and linear layers in 8 bits, with ranges from at most 64 images of the dataset's
            train split, or of `images`: those it is compared on, too, so a dataset tells more.
        fp16: in 16-bit floats.
        dataset: what to compare on, and to score both on: as for `evaluate`.
        split: of the dataset.
        images: files, folders or globs to compare on where there is no dataset; without them it is 12 drawn scenes.
        limit: how many images to compare on at most, spread evenly.
        tolerance: share of the pixels that may get another class than from the model; None = 0.001, of fp16 0.005 and
            of int8 0.02.
        runs: calls of each that are timed; 0 = none.
        batch_size: images at once for the throughput; 1 where the batch is fixed.
        device: of the model and of onnxruntime, "cpu", "cuda", ..; None = a GPU if there is one.
        gate: more thresholds, as "onnx_p95_ms <= 50" or "delta.mean_iou >= -0.005"; see `figures_of`.
        gates: a TOML file with more of them.
        image_column, label_column, id2label, keep_zero, config: of a foreign dataset, as for `load`.
        overwrite: replace a file that `export` left at `out`. The same export again does nothing.

    Raises:
        ModelNotFound, ModelError: no model there, or torch cannot export it so.
        DatasetNotFound, DatasetError: something is missing or does not fit.
        OptionError: a value that cannot be used.
        OutputExists: another file is at `out`, or export.json beside it is of another one.
        GateFailed: more pixels than the tolerance differ, or a gate is not met. The file is left, and the error carries
            the record.
    """
    started = time.perf_counter()
    path = onnx_path(out)
    settings = settings_of(
        takes=takes,
        gives=gives,
        dynamic=dynamic,
        opset=opset,
        quantize=quantize,
        fp16=fp16,
        limit=limit,
        runs=runs,
        batch_size=batch_size,
    )
    stated = (tolerance_gate(tolerance, settings.precision), *read_gates(gate, gates))
    require_exporter()
    subject = subject_of(
        partial(
            load,
            image_column=image_column,
            label_column=label_column,
            id2label=id2label,
            keep_zero=keep_zero,
            config=config,
        ),
        dataset,
        split,
        images,
        settings,
    )
    files = locate(model)
    if files.file is not None:
        raise ModelError(f"{model} is an ONNX file", hint="give the folder of the model it was exported from")
    inputs = {"model": files.digest, "images": subject.digest}
    machine = {"device": str(pick_device(device)), "threads": torch.get_num_threads(), "versions": _versions()}
    wanted = fingerprint("export", inputs, asdict(settings) | machine)
    with locked(path.resolve()):
        record = None if overwrite else same_export(path, wanted)
        unchanged = record is not None
        if record is None:
            require_free(path, overwrite=overwrite)
            with tempfile.TemporaryDirectory(prefix="labelsync-") as folder:
                file = Path(folder) / path.name
                record = _made(model, file, settings, subject, device=device)
                record = replace(record, seconds=round(time.perf_counter() - started, 1))
                record = _checked(record, stated)
                leave(file, path, record, wanted)
    record = _checked(replace(record, path=str(out), model=str(model), unchanged=unchanged), stated)
    require_gates(record.gates, record)
    return record


# -------------------------------------------------------------------- what is made


def _made(model: str | Path, file: Path, settings: Settings, subject: Subject, *, device: str | None) -> ExportRecord:
    """Write the file, and measure it."""
    loaded = load_model(model, device="cpu")
    proto = to_onnx(loaded, takes=settings.takes, gives=settings.gives, dynamic=settings.dynamic, opset=settings.opset)
    if settings.precision == "fp16":
        proto = to_fp16(proto)
    elif settings.precision == "int8":
        proto = to_int8(proto, _inputs(loaded, subject.calibration, settings.takes))
    file.write_bytes(serialized(with_metadata(proto, _facts(loaded, model, settings).metadata())))
    graph = Graph(loaded, settings.takes, settings.gives).eval()
    exported = load_model(file, device=device)
    runner = cast("OnnxModel", exported.model)
    require_axes(graph, runner, settings.dynamic)
    place = pick_device(device)
    torch.nn.Module.to(graph, place)  # and the model in it
    found = parity(loaded, exported, subject.photos, labels=subject.labels)
    first = next(opened(subject.photos))
    given = graph_input(loaded, first.image, settings.takes)
    ways: dict[str, Run] = {"torch": partial(_eager, graph, place), "onnx": runner.__call__}
    return ExportRecord(
        path=file.name,
        model=short_name(model),
        model_digest=loaded.digest,
        digest=exported.digest,
        bytes=file.stat().st_size,
        precision=settings.precision,
        takes=settings.takes,
        gives=settings.gives,
        opset=settings.opset,
        dynamic=settings.dynamic,
        size_hw=loaded.size_hw,
        num_labels=loaded.labels.num_labels,
        measured_on=subject.what,
        **asdict(found),
        latency=latencies(ways, given, runs=settings.runs, batch_size=settings.batch_size),
        runs=settings.runs,
        batch_size=settings.batch_size,
        threads=torch.get_num_threads(),
        device=place.type,
        calibrated_on=subject.calibrated_on,
        versions=_versions(),
    )


def _eager(graph: Graph, place: torch.device, images: torch.Tensor) -> torch.Tensor:
    """Torch's answer, on the CPU, as onnxruntime's is."""
    with torch.inference_mode():
        answer: torch.Tensor = graph(images.to(place)).cpu()
    return answer


def _inputs(loaded: LoadedModel, photos: Sequence[Opener], takes: Takes) -> Iterator[npt.NDArray[Any]]:
    return (graph_input(loaded, photo.image, takes).numpy() for photo in opened(photos, progress="calibrate"))


def _facts(loaded: LoadedModel, model: str | Path, settings: Settings) -> GraphFacts:
    return GraphFacts(
        labels=loaded.labels,
        outputs=loaded.names,
        takes=settings.takes,
        gives=settings.gives,
        size_hw=loaded.size_hw,
        mean=loaded.mean,
        std=loaded.std,
        precision=settings.precision,
        model=short_name(model),
        model_digest=loaded.digest,
        version=_versions()["labelsync"],
    )


def _checked(record: ExportRecord, stated: Sequence[Gate]) -> ExportRecord:
    """The record with what became of the gates; the first is the tolerance."""
    return replace(record, tolerance=round(1 - stated[0].limit, 9), gates=check_gates(stated, figures_of(record)))


def _versions() -> dict[str, str]:
    names = ("labelsync", "onnx", "onnxruntime", "onnxscript", "torch", "transformers")
    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {n: found.get(n, found.get(f"{n}-gpu", "")) for n in names}
