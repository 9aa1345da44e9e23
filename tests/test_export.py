"""export: the file is the model it says, knows its classes, works in the model's place, and its proof can fail."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from labelsync.deploy.axes import require_axes
from labelsync.deploy.export import export
from labelsync.deploy.graph import Graph, axes_of, graph_input, to_onnx
from labelsync.deploy.latency import latencies
from labelsync.deploy.parity import drawn, of_files, parity
from labelsync.deploy.precision import serialized, to_fp16, to_int8, with_metadata
from labelsync.errors import GateFailed, ModelError, ModelNotFound, OptionError, OutputExists
from labelsync.labels import LabelMap
from labelsync.model.head import class_keys
from labelsync.model.load import load_model, new_model, save_model
from labelsync.model.loaded import LoadedModel
from labelsync.model.onnx import GraphFacts, facts_of
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.exports import ExportRecord
from labelsync.records.text import from_json
from tests.models import ARCHITECTURES, label_map, loud, numbered, tiny_config, tiny_segformer
from tests.pictures import picture
from tests.releases import draw_release

NAMES = ("class-1", "class-2", "class-3")  # those of a drawn release
HW = (64, 96)


def a_model(folder: Path, labels: LabelMap | None = None, *, seed: int = 0) -> LoadedModel:
    """A tiny SegFormer whose classes all win somewhere."""
    labels = labels or label_map(*NAMES)
    return loud(new_model(tiny_segformer(folder, labels), labels, image_size=HW, seed=seed), seed=seed)


def facts(loaded: LoadedModel, **changes: Any) -> GraphFacts:
    kinds: dict[str, Any] = {"takes": "normalized", "gives": "logits", "precision": "fp32"} | changes
    return GraphFacts(
        labels=loaded.labels,
        outputs=loaded.names,
        size_hw=loaded.size_hw,
        mean=loaded.mean,
        std=loaded.std,
        model="m",
        model_digest="d",
        version="1",
        **kinds,
    )


def written(loaded: LoadedModel, file: Path, proto: Any = None, **kinds: Any) -> LoadedModel:
    """The model as a file of that kind, loaded again; without the verb around it."""
    asked = {k: v for k, v in kinds.items() if k in ("takes", "gives")}
    if proto is None:
        asked = {"takes": "normalized", "gives": "logits"} | asked
        proto = to_onnx(loaded, dynamic=axes_of(("batch",), asked["takes"]), **asked)
    file.write_bytes(serialized(with_metadata(proto, facts(loaded, **kinds).metadata())))
    return load_model(file)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, photos/ and a dataset, and the model exported twice by the real command; not to be written to."""
    from click.testing import CliRunner

    from labelsync import convert, pull
    from labelsync.cli.main import main

    folder = tmp_path_factory.mktemp("export")
    save_model(a_model(folder / "model"), folder / "model")
    (folder / "photos").mkdir()
    for seed in range(3):
        (folder / f"photos/p{seed}.png").write_bytes(encode_png(picture(seed, (90 + 10 * seed, 120))))
    draw_release(folder / "release", samples=12)
    pulled = pull(folder / "release/release.json", out=folder / "pulled")
    convert(pulled.path, out=folder / "dataset", fractions=(0.4, 0.2, 0.4))
    for name, argv in (
        ("logits", ["--images", folder / "photos", "--runs", "2", "--batch-size", "2"]),
        ("frames", ["--takes", "frames", "--gives", "classes", "--dataset", folder / "dataset", "--runs", "0"]),
    ):
        out = ["export", folder / "model", "--out", folder / name / "model.onnx", "--json", "--device", "cpu"]
        done = CliRunner().invoke(main, [str(a) for a in (*out, *argv)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        (folder / f"{name}.json").write_text(done.stdout)
    return folder


def record(place: Path, name: str) -> ExportRecord:
    return from_json(ExportRecord, (place / f"{name}.json").read_text())


# ---------------------------------------------------------------- the file is the model


def test_the_file_alone_gives_the_models_logits_and_not_those_of_other_weights(place: Path, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(place / "logits/model.onnx", providers=["CPUExecutionProvider"])
    model, other = load_model(place / "model").model, a_model(tmp_path, seed=1).model
    images = torch.randn(3, 3, *HW, generator=torch.Generator().manual_seed(0))
    (found,) = session.run(None, {"image": images.numpy()})
    with torch.inference_mode():
        meant, wrong = model(images).logits.numpy(), other(images).logits.numpy()
    spread = float(np.ptp(meant))
    assert found.shape == meant.shape == (3, 3, 16, 24)
    assert np.abs(found - meant).max() < 1e-4 * spread
    assert np.abs(found - wrong).max() > 0.1 * spread


def test_frames_in_and_disk_ids_out_need_nothing_but_onnxruntime(place: Path) -> None:
    session = onnxruntime.InferenceSession(place / "frames/model.onnx", providers=["CPUExecutionProvider"])
    segmenter = Segmenter(place / "model")
    for seed, size_hw in enumerate([(90, 120), HW, (37, 53)]):
        frame = picture(seed, size_hw)
        (found,) = session.run(None, {"image": np.stack([frame, frame[::-1]])})
        assert (found.dtype, found.shape) == (np.uint8, (2, *size_hw))
        meant = segmenter.segment_batch([frame, frame[::-1]])
        assert np.mean(found == np.stack(meant)) > 0.995  # onnxruntime resizes in floats, torchvision in integers
        assert len(np.unique(found)) > 1
        assert found.min() >= 1


def test_the_metadata_say_what_a_robot_has_to_know(place: Path) -> None:
    session = onnxruntime.InferenceSession(place / "frames/model.onnx", providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    loaded = load_model(place / "model")
    assert json.loads(told["id2label"]) == {"0": "unlabeled", "1": "class-1", "2": "class-2", "3": "class-3"}
    assert json.loads(told["colors"]) == loaded.labels.colors.tolist()
    assert (json.loads(told["size"]), told["model_digest"]) == ({"height": 64, "width": 96}, loaded.digest)
    again = facts_of(told, where="it")
    assert (again.labels, again.outputs) == (loaded.labels, loaded.names)
    assert (again.mean, again.std, again.takes, again.gives) == (loaded.mean, loaded.std, "frames", "classes")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["batch", "height", "width", 3])
    assert (made.name, made.type, made.shape) == ("classes", "tensor(uint8)", ["batch", "height", "width"])


def test_no_path_of_this_machine_is_in_the_files(place: Path) -> None:
    for name in ("logits", "frames"):
        for file in (place / name / "model.onnx", place / name / "export.json"):
            data = file.read_bytes()
            for path in (str(place), str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[1]), ".py"):
                assert path.encode() not in data, (file.name, path)


def test_the_same_model_gives_the_same_bytes(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "model", tmp_path / "elsewhere/model")
    again = export(tmp_path / "elsewhere/model", out=tmp_path / "m.onnx", images=[place / "photos"], runs=0)
    assert again.digest == record(place, "logits").digest


def test_classes_beyond_8_bits_and_in_another_order_come_out_as_disk_ids(tmp_path: Path) -> None:
    """A published model whose first output is "unlabeled", of more classes than a byte holds."""
    names = numbered(300).names
    loaded = a_model(tmp_path / "m", label_map(*(f"old {n}" for n in range(301))))
    moved = LoadedModel(**vars(loaded) | {"names": ("unlabeled", *reversed(names)), "labels": numbered(300)})
    exported = written(moved, tmp_path / "m.onnx", takes="pixels", gives="classes")
    frame = picture(3, HW)
    found, meant = Segmenter(exported).segment(frame), Segmenter(moved).segment(frame)
    assert found.dtype == np.uint16
    assert found.max() > 255
    assert np.mean(found == meant) > 0.999


# ---------------------------------------------------------------- in the model's place


def test_the_segmenter_takes_the_file_as_it_takes_the_model(place: Path) -> None:
    frames = [picture(i, (50 + 20 * i, 80)) for i in range(3)]
    meant = Segmenter(place / "model").segment_batch(frames)
    for name, least in (("logits", 0.9999), ("frames", 0.99)):
        found = Segmenter(place / name / "model.onnx", batch_size=2).segment_batch(frames)
        assert [f.shape for f in found] == [m.shape for m in meant]
        assert all(f.dtype == np.uint8 for f in found)
        assert min(np.mean(f == m) for f, m in zip(found, meant, strict=True)) >= least
    confident = Segmenter(place / "logits/model.onnx").segment_with_confidence(frames)
    assert all(c is not None and 0 < c.min() <= c.max() <= 1 for _, c in confident)
    assert [c for _, c in Segmenter(place / "frames/model.onnx").segment_with_confidence(frames)] == [None] * 3


def test_disk_ids_are_answered_in_the_classes_that_are_asked_for(place: Path) -> None:
    frame, labels = picture(0), label_map("class-3", "kerb", "class-1")
    ours = Segmenter(place / "frames/model.onnx").segment(frame)
    asked = Segmenter(place / "frames/model.onnx", labels=labels)
    assert np.array_equal(asked.segment(frame), np.array([0, 3, 0, 1], np.uint8)[ours])
    assert asked.lacking == ("kerb",)


@pytest.mark.parametrize("name", ["logits", "frames"])
def test_evaluate_and_predict_take_the_file(place: Path, tmp_path: Path, cli: Any, name: str) -> None:
    file = place / name / "model.onnx"
    argv = ["--dataset", place / "dataset", "--resamples", "0", "--json", "--out"]
    told = [json.loads(cli("evaluate", m, *argv, tmp_path / m.name).stdout) for m in (file, place / "model")]
    assert told[0]["mean_iou"] == pytest.approx(told[1]["mean_iou"], abs=0.01)
    assert (told[0]["expected_calibration_error"] is None) == (name == "frames")  # classes alone say nothing of it
    cli("predict", file, place / "photos", "--out", tmp_path / "predictions", "--no-overlays")
    found = decode_semantic((tmp_path / "predictions/bitmaps/p2.png").read_bytes())
    meant = Segmenter(place / "model").segment(decode_image((place / "photos/p2.png").read_bytes()))
    assert np.mean(found == meant) > 0.99


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_precision_says_nothing_to_a_file_and_is_refused(
    place: Path, tmp_path: Path, cli: Any, precision: str
) -> None:
    out = ("--out", tmp_path / "p", "--device", "cpu")
    said = cli("predict", place / "logits/model.onnx", place / "photos", "--precision", precision, *out, code=2).stderr
    assert f"--precision {precision} says nothing to" in said and "leave it out, or export the model with" in said
    assert not (tmp_path / "p").exists()
    if precision != "fp32":
        with pytest.raises(OptionError, match="computes in what it was exported in"):
            Segmenter(place / "logits/model.onnx", precision=precision)


def test_predictions_say_what_the_file_computes_in(place: Path, tmp_path: Path, cli: Any) -> None:
    kept = {p: p.read_bytes() for p in (place / "photos").iterdir()}
    with pytest.raises(GateFailed):
        export(place / "model", out=tmp_path / "m.onnx", images=list(kept), quantize="int8", runs=0, tolerance=1e-9)
    argv = ("predict", tmp_path / "m.onnx", place / "photos", "--out", tmp_path / "p", "--no-overlays", "--json")
    assert [json.loads(cli(*argv).stdout)["precision"] for _ in range(2)] == ["int8", "int8"]
    assert Segmenter(tmp_path / "m.onnx").precision == "int8"


def test_other_ways_of_looking_need_logits_to_average(place: Path, cli: Any) -> None:
    frame = picture(1)
    found, meant = (Segmenter(place / m, flip=True).segment(frame) for m in ("logits/model.onnx", "model"))
    assert np.mean(found == meant) > 0.9999
    with pytest.raises(OptionError, match="cannot take inputs of 96x128 in place of 64x96"):
        Segmenter(place / "logits/model.onnx", scales=(1.5,))
    for asked in ({"flip": True}, {"window": "32"}):
        with pytest.raises(OptionError, match=r"no place for --flip.*--gives logits"):
            Segmenter(place / "frames/model.onnx", **asked)
    with pytest.raises(OptionError, match="no place for uncertainty"):
        Segmenter(place / "frames/model.onnx").segment_with_uncertainty([frame])
    said = cli("check", place / "dataset", "--model", place / "frames/model.onnx", code=2).stderr
    assert "does not say how sure it is" in said


def test_what_weights_alone_decide_is_computed_once(pixels: Any) -> None:
    weights = {t.name for t in pixels.graph.initializer}
    convolutions = [n for n in pixels.graph.node if n.op_type == "Conv"]
    assert len(convolutions) > 10
    assert [n.name for n in convolutions if n.input[1] not in weights] == []
    assert [n.name for n in pixels.graph.node if n.input and set(n.input) <= weights] == []


def test_a_file_for_one_size_and_one_image_says_so_and_still_takes_batches(place: Path, tmp_path: Path) -> None:
    loaded = load_model(place / "model")
    file = tmp_path / "m.onnx"
    exported = written(loaded, file, to_onnx(loaded, takes="normalized", gives="logits", dynamic=()))
    frames = [picture(i) for i in range(3)]
    found, meant = (Segmenter(m, batch_size=3).segment_batch(frames) for m in (exported, loaded))
    assert min(np.mean(f == m) for f, m in zip(found, meant, strict=True)) > 0.9999
    with pytest.raises(ModelError, match=r"m\.onnx takes images of 96x64 only; .*--dynamic batch,size"):
        exported.model(torch.zeros(1, 3, 32, 32))


# ---------------------------------------------------------------- the proof


def test_the_record_holds_the_proof(place: Path, tmp_path: Path, cli: Any) -> None:
    given, scored = record(place, "logits"), record(place, "frames")
    assert (given.measured_on, given.images, given.mean_iou) == ("3 images given", 3, None)
    assert given.agreement >= 0.9999
    assert 0 < given.latency["onnx"].p50_ms <= given.latency["onnx"].p95_ms
    assert given.latency["torch"].images_per_second > 0
    assert given.bytes == (place / "logits/model.onnx").stat().st_size
    assert scored.measured_on == "the test split of dataset"
    argv = ["--dataset", place / "dataset", "--resamples", "0", "--out", tmp_path / "e", "--json"]
    evaluated = json.loads(cli("evaluate", place / "model", *argv).stdout)
    assert scored.torch_mean_iou == pytest.approx(evaluated["mean_iou"], abs=1e-12)
    assert scored.mean_iou == pytest.approx(evaluated["mean_iou"], abs=0.01)
    assert 0.99 < scored.worst_agreement <= scored.agreement
    kept = json.loads((place / "frames/export.json").read_text())
    assert (kept["path"], kept["agreement"], kept["gates"][0]["gate"]) == (
        "model.onnx",
        scored.agreement,
        "agreement >= 0.999",
    )


def test_other_weights_do_not_pass_for_the_model(place: Path, tmp_path: Path) -> None:
    """What the proof is for: a file that is not of these weights."""
    exported = load_model(place / "logits/model.onnx")
    photos = of_files([place / "photos"], 100)
    assert parity(load_model(place / "model"), exported, photos).agreement > 0.9999
    assert parity(a_model(tmp_path, seed=1), exported, photos).agreement < 0.9
    assert parity(load_model(place / "model"), exported, drawn()).images == 12
    with pytest.raises(ModelError, match="off by"):
        require_axes(Graph(a_model(tmp_path, seed=1), "normalized", "logits").eval(), exported.model, ("batch",))  # type: ignore[arg-type]


def test_the_same_export_again_does_nothing_and_gates_are_asked_again(place: Path, tmp_path: Path, cli: Any) -> None:
    shutil.copytree(place / "logits", tmp_path / "out")
    file = tmp_path / "out/model.onnx"
    argv = ["export", place / "model", "--out", file, "--images", place / "photos", "--runs", "2", "--batch-size", "2"]
    argv += ["--device", "cpu"]
    before = file.stat()
    assert "(unchanged)" in cli(*argv).stdout
    done = cli(*argv, "--gate", "onnx_p95_ms <= 0.000001", "--gate", "megabytes < 5", code=3)
    assert "NOT MET  onnx_p95_ms <= 0.000001" in done.stdout
    assert "met  megabytes < 5" in done.stdout
    exact = cli(*argv, "--tolerance", "0", "--gate", "agreement > 1", code=3).stdout.splitlines()
    assert exact[-2].endswith("  agreement >= 1")
    assert exact[-1] == "NOT MET  agreement > 1"
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    with pytest.raises(OutputExists, match=r"model\.onnx exists"):
        export(place / "model", out=file, images=[place / "photos"], runs=0)
    with pytest.raises(OutputExists, match=r"export\.json is the record of model\.onnx; .*folder of its own"):
        export(place / "model", out=tmp_path / "out/int8.onnx", images=[place / "photos"])
    (tmp_path / "other.onnx").write_text("mine")
    with pytest.raises(OutputExists, match=r"other\.onnx exists"):
        export(place / "model", out=tmp_path / "other.onnx", overwrite=True)
    assert (tmp_path / "other.onnx").read_text() == "mine"


def test_eight_bits_change_some_pixels_and_a_breach_ends_in_a_failed_gate(place: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"images": [place / "photos"], "quantize": "int8", "runs": 0, "tolerance": 1e-9}
    with pytest.raises(GateFailed) as failed:
        export(place / "model", out=tmp_path / "m.onnx", **asked)
    made: Any = failed.value.record
    assert failed.value.details[0].startswith("agreement >= 0.999999999: it is 0.9")
    assert 0.9 < made.worst_agreement <= made.agreement < 1
    assert made.calibrated_on == "3 images given"
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert made.bytes < record(place, "logits").bytes
    told = json.loads((tmp_path / "export.json").read_text())
    assert (told["precision"], bool(told["gates"][0]["reason"])) == ("int8", True)
    fewer = export(place / "model", out=tmp_path / "f/m.onnx", **(asked | {"tolerance": 0.5, "limit": 1}))
    assert (fewer.measured_on, fewer.calibrated_on) == ("1 images given", "3 images given")


@pytest.fixture(scope="module")
def pixels(place: Path) -> Any:
    """The graph of the model that takes pixels and gives logits at their size."""
    return to_onnx(load_model(place / "model"), takes="pixels", gives="upsampled")


def copied(proto: Any) -> Any:
    same = onnx.ModelProto()
    same.CopyFrom(proto)
    return same


def test_half_the_bits_are_half_the_weights_and_the_same_classes(place: Path, pixels: Any, tmp_path: Path) -> None:
    loaded = load_model(place / "model")
    half = to_fp16(copied(pixels))
    sizes = [sum(len(onnx.numpy_helper.to_array(t).tobytes()) for t in p.graph.initializer) for p in (half, pixels)]
    assert sizes[0] < 0.6 * sizes[1]
    exported = written(loaded, tmp_path / "m.onnx", half, takes="pixels", gives="upsampled", precision="fp16")
    found = parity(loaded, exported, of_files([place / "photos"], 3))
    assert found.agreement > 0.995


def test_attention_stays_in_floats(place: Path, pixels: Any) -> None:
    loaded = load_model(place / "model")
    images = [graph_input(loaded, picture(i), "pixels").numpy() for i in range(2)]
    made = to_int8(copied(pixels), iter(images)).graph.node
    quantised = {o for n in made if n.op_type == "DequantizeLinear" for o in n.output}
    products = [n for n in made if n.op_type == "MatMul"]
    both = [set(n.input) <= quantised for n in products]
    assert (sum(both), len(both) - sum(both)) == (len(both) - 8, 8)  # two products in each of four layers


def test_both_ways_are_timed_in_turn_on_the_same_input() -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []
    ways = {name: (lambda images, name=name: calls.append((name, tuple(images.shape)))) for name in ("a", "b")}
    found = latencies(ways, torch.zeros(1, 3, 4, 4), runs=20, batch_size=5)
    assert [name for name, _ in calls] == ["a", "b"] * (len(calls) // 2)
    assert [shape[0] for _, shape in calls].count(1) == 2 * (20 + 3)
    assert {shape[0] for _, shape in calls} == {1, 5}
    assert found["a"].p50_ms <= found["a"].p95_ms
    assert latencies(ways, torch.zeros(1, 3, 4, 4), runs=0, batch_size=5) == {}


# ---------------------------------------------------------------- what is refused


def test_what_is_no_exported_file_is_refused_in_a_line(place: Path, tmp_path: Path, cli: Any) -> None:
    file = tmp_path / "model.onnx"
    argv = ("predict", file, place / "photos", "--out", tmp_path / "p")
    assert "there is no file" in cli(*argv, code=1).stderr
    whole = (place / "logits/model.onnx").read_bytes()
    for data in (b"", b"not a graph", whole[: len(whole) // 2], encode_png(picture(0))):
        file.write_bytes(data)
        assert "is no ONNX file that onnxruntime can read" in cli(*argv, code=1).stderr or not data
    bare = onnx.load(place / "logits/model.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, file)
    assert "does not say what its classes are (no 'label_map' in its metadata)" in cli(*argv, code=1).stderr
    with_metadata(bare, {"label_map": "{}", "outputs": "[]", "takes": "a", "gives": "b", "size": "{}"})
    onnx.save(bare, file)
    assert cli(*argv, code=1).stderr
    assert not (tmp_path / "p").exists()


def test_a_file_is_not_trained_from_or_exported_again(place: Path, tmp_path: Path) -> None:
    file = place / "logits/model.onnx"
    with pytest.raises(ModelError, match="is an ONNX file"):
        new_model(file, numbered(3), image_size=HW, seed=0)
    with pytest.raises(ModelError, match=r"is an ONNX file.*the folder of the model"):
        export(file, out=tmp_path / "again.onnx")
    with pytest.raises(ModelNotFound, match="is a file"):
        load_model(place / "model/model.safetensors")
    assert list(tmp_path.glob("*.onnx")) == []


def test_without_onnxruntime_the_extra_is_named(place: Path, tmp_path: Path, monkeypatch: Any, cli: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert (
        "pip install 'labelsync[onnx]'" in cli("export", place / "model", "--out", tmp_path / "m.onnx", code=1).stderr
    )
    with pytest.raises(ModelError, match=r"needs onnxruntime.*labelsync\[onnx\]"):
        load_model(place / "logits/model.onnx")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"out": "model.bin"}, "no name of an .onnx file"),
        ({"quantize": "int8"}, "takes its ranges from real images"),
        ({"quantize": "int8", "fp16": True}, "in 8-bit integers or in 16-bit floats"),
        ({"quantize": "int4"}, "in 8-bit integers"),
        ({"takes": "bytes"}, "takes is normalized, pixels, frames"),
        ({"dynamic": ("depth",)}, "no axis"),
        ({"tolerance": 2.0}, "it is a share"),
        ({"limit": 0}, "are 1 or more"),
        ({"gate": ("soon",)}, "cannot be read"),
        ({"images": ["nowhere"]}, "no image at"),
    ],
)
def test_values_that_cannot_be_used_are_refused_before_anything_is_made(
    place: Path, tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        export(place / "model", **{"out": tmp_path / "model.onnx"} | asked)
    assert [p for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


@pytest.mark.slow
def test_an_opset_that_torch_does_not_write_is_refused(place: Path) -> None:
    with pytest.raises(ModelError, match=r"\(segformer\) cannot be written in opset 12.*--opset 18"):
        to_onnx(load_model(place / "model"), takes="normalized", gives="logits", opset=12)


# ---------------------------------------------------------------- the eight architectures


def an_architecture(architecture: str) -> LoadedModel:
    """A tiny one with random weights, its outputs made as large as a trained model's."""
    from transformers import AutoModelForSemanticSegmentation

    config = tiny_config(architecture)
    config.id2label, config.label2id = {i: f"class {i + 1}" for i in range(5)}, {f"class {i + 1}": i for i in range(5)}
    torch.manual_seed(0)
    model = AutoModelForSemanticSegmentation.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:  # He et al. 2015: the signal keeps its size through the layers
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
            elif name.endswith("bias"):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0  # one pass over scenes, and every layer knows the size of its inputs
    pixels = torch.cat([graph_input(_plain(model), photo().image, "normalized") for photo in drawn()[:4]])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model.train()(pixels)
        means = model.eval()(pixels).logits.mean((0, 2, 3))
        for name in class_keys(model.config):
            if name.endswith("bias") and "auxiliary" not in name:
                model.get_parameter(name).sub_(means)  # no class is ahead of the others everywhere
    return _plain(model)


def _plain(model: Any) -> LoadedModel:
    labels = numbered(5)
    return LoadedModel(model, labels, labels.names, (64, 64), (0.5,) * 3, (0.25,) * 3, model.config.model_type, "d")  # type: ignore[arg-type]


def agreement_of(architecture: str, folder: Path, **kinds: Any) -> float:
    """Share of the pixels in which onnxruntime and torch agree over the same graph, whose input both get alike.

    Not against the Segmenter, which resizes in integers: of random weights some make much of one level of grey.
    """
    loaded = an_architecture(architecture)
    exported: Any = written(loaded, folder / f"{architecture}.onnx", **kinds).model
    graph = Graph(loaded, exported.takes, exported.gives).eval()
    require_axes(graph, exported, axes_of(("batch",), exported.takes))
    shares, classes = [], set()
    for photo in drawn():
        given = graph_input(loaded, photo().image, exported.takes)
        with torch.inference_mode():
            sides = [model(given) for model in (graph, lambda images: exported(images).logits)]
        found = [answer.argmax(1) + 1 if answer.ndim == 4 else answer for answer in sides]
        shares.append(float((found[0] == found[1]).float().mean()))
        classes |= set(found[0].unique().tolist())
    assert len(classes) > 1, "it says one class only"
    return float(np.mean(shares))


def test_upernet_which_the_old_exporter_cannot_do_is_exported(tmp_path: Path) -> None:
    assert agreement_of("upernet", tmp_path) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_of_the_eight_says_what_the_model_says(architecture: str, tmp_path: Path) -> None:
    whole = agreement_of(architecture, tmp_path, takes="frames", gives="classes")
    plain = agreement_of(architecture, tmp_path)
    print(f"{architecture:16} logits {plain:.4%}  frames -> classes {whole:.4%}")  # `pytest -s` for the table
    assert plain >= 0.999
    assert whole >= 0.95  # resizing differs in the last bit, and a level of grey is much to random weights


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_takes_other_sizes_or_is_refused(architecture: str, tmp_path: Path) -> None:
    """None answers wrongly in silence. Those that do are traced without the size of their input in them."""
    loaded = an_architecture(architecture)
    axes = ("batch", "size")
    try:
        proto = to_onnx(loaded, takes="normalized", gives="logits", dynamic=axes)
        exported = written(loaded, tmp_path / "m.onnx", proto)
        require_axes(Graph(loaded, "normalized", "logits").eval(), exported.model, axes)  # type: ignore[arg-type]
    except ModelError as e:
        assert e.hint.startswith("leave out --dynamic size")
        print(f"{architecture:16} {e.message}")
        assert architecture not in ("segformer", "mobilenet_v2")
    else:
        print(f"{architecture:16} any size")
