import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from labelsync.errors import AuthError, ModelError, ModelNotFound, OptionError, ServiceError
from labelsync.model.head import class_keys
from labelsync.model.load import load_model, new_model, read_weights, save_model
from labelsync.model.loaded import LoadedModel
from labelsync.model.preprocess import normalize, resize
from labelsync.store.manifest import write_manifest
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.models import ARCHITECTURES, label_map, numbered, tiny_config, tiny_segformer

HW = (48, 64)


@pytest.fixture(scope="module")
def config_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_segformer(tmp_path_factory.mktemp("models") / "config-only", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of four classes; never written to."""
    return tiny_segformer(tmp_path_factory.mktemp("models") / "saved", 4, weights=True, image_size=HW, seed=1)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be broken."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def state(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return dict(loaded.model.state_dict())


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -------------------------------------------------------------------- new models


def test_random_weights_come_from_the_seed_and_leave_the_global_generator_alone(config_only: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    a = new_model(config_only, numbered(4), image_size=HW, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert_equal(state(a), state(new_model(config_only, numbered(4), image_size=HW, seed=3)))
    other = state(new_model(config_only, numbered(4), image_size=HW, seed=4))
    assert not torch.equal(other["decode_head.classifier.weight"], state(a)["decode_head.classifier.weight"])
    assert (a.head, a.size_hw, a.names) == ("fresh", HW, numbered(4).names)


def test_rows_of_the_head_follow_class_names_not_positions(folder: Path) -> None:
    old = state(load_model(folder))
    new = new_model(folder, label_map("class 3", "kerb", "class 1"), image_size=HW, seed=9)
    assert new.head == "2 of 3 classes carried over"
    head = class_keys(new.model.config)
    assert head == {"decode_head.classifier.weight", "decode_head.classifier.bias"}
    for key, tensor in state(new).items():
        if key in head:
            assert torch.equal(tensor[0], old[key][2])
            assert torch.equal(tensor[2], old[key][0])
            assert tensor.shape[0] == 3
        else:
            assert torch.equal(tensor, old[key])
    fresh = state(new)["decode_head.classifier.weight"][1]
    assert not any(torch.equal(fresh, row) for row in old["decode_head.classifier.weight"])


def test_the_same_classes_keep_the_head_and_other_classes_get_a_fresh_one(folder: Path) -> None:
    kept = new_model(folder, numbered(4), image_size=HW, seed=9)
    assert kept.head == "kept"
    assert_equal(state(kept), state(load_model(folder)))
    assert new_model(folder, label_map("a", "b"), image_size=HW, seed=9).head == "fresh"


def test_a_classifiers_backbone_becomes_a_model_and_is_none_by_itself(config_only: Path, tmp_path: Path) -> None:
    """nvidia/mit-b0 is such a file: SegFormer's encoder under an ImageNet classifier."""
    config = transformers.AutoConfig.from_pretrained(config_only, num_labels=10)
    classifier = transformers.SegformerForImageClassification(config)
    classifier.save_pretrained(tmp_path)
    new = new_model(tmp_path, numbered(4), image_size=HW, seed=0)
    assert new.head == "fresh"
    backbone = {k: v for k, v in classifier.state_dict().items() if k.startswith("segformer.")}
    assert backbone
    assert_equal({k: v for k, v in state(new).items() if k.startswith("segformer.")}, backbone)
    with pytest.raises(ModelError, match=r"lacks \d+ of the model's weights \(decode_head"):
        load_model(tmp_path)


@pytest.mark.parametrize(("num_labels", "ignore_index"), [(254, 255), (255, 65535)])
def test_the_ignore_index_stands_under_the_key_the_architecture_reads(
    config_only: Path, tmp_path: Path, num_labels: int, ignore_index: int
) -> None:
    segformer = new_model(config_only, numbered(num_labels), image_size=HW, seed=0).model.config
    assert segformer.semantic_loss_ignore_index == ignore_index
    tiny_config("upernet").save_pretrained(tmp_path)
    upernet = new_model(tmp_path, numbered(num_labels), image_size=HW, seed=0).model.config
    assert upernet.loss_ignore_index == ignore_index


# -------------------------------------------------------------------- there and back


def test_a_saved_model_is_the_same_on_every_tensor(folder: Path, config_only: Path, tmp_path: Path) -> None:
    first = new_model(config_only, label_map("road", "sidewalk", "curb"), image_size=HW, seed=5)
    save_model(first, tmp_path)
    second = new_model(tmp_path, first.labels, image_size=(1, 1), seed=6)
    assert_equal(state(second), state(first))
    loaded = load_model(tmp_path, device="cpu")
    assert_equal(state(loaded), state(first))
    assert (loaded.names, loaded.size_hw) == (first.names, HW)
    assert (loaded.mean, loaded.std) == (first.mean, first.std)
    assert json.loads((tmp_path / "id2label.json").read_text()) == {
        "0": "unlabeled",
        "1": "road",
        "2": "sidewalk",
        "3": "curb",
    }


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, marks=[] if a in ("segformer", "upernet") else pytest.mark.slow) for a in ARCHITECTURES],
)
def test_every_architecture_comes_back_whole_and_carries_its_classes(architecture: str, tmp_path: Path) -> None:
    tiny_config(architecture).save_pretrained(tmp_path / "config")
    first = new_model(tmp_path / "config", numbered(5), image_size=(64, 64), seed=1)
    save_model(first, tmp_path / "saved")
    assert_equal(state(new_model(tmp_path / "saved", numbered(5), image_size=(64, 64), seed=2)), state(first))
    loaded = load_model(tmp_path / "saved", device="cpu")
    assert_equal(state(loaded), state(first))
    with torch.inference_mode():
        assert loaded.model(torch.zeros(1, 3, 64, 64)).logits.shape[:2] == (1, 5)
    few = new_model(tmp_path / "saved", label_map("class 4", "new"), image_size=(64, 64), seed=3)
    assert few.head == "1 of 2 classes carried over"
    heads = class_keys(few.model.config)
    assert heads
    for key, tensor in state(few).items():
        assert torch.equal(tensor[0], state(first)[key][3]) if key in heads else torch.equal(tensor, state(first)[key])


def test_transformers_loads_what_is_saved(folder: Path) -> None:
    theirs = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder)
    assert_equal(dict(theirs.state_dict()), state(load_model(folder)))
    assert theirs.config.id2label == {0: "class 1", 1: "class 2", 2: "class 3", 3: "class 4"}
    assert theirs.config.label2id["class 4"] == 3
    assert str(folder) not in (folder / "config.json").read_text()


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_model(load_model(folder), tmp_path)
    names = sorted(p.name for p in folder.iterdir())
    assert names == sorted(p.name for p in tmp_path.iterdir())
    assert [n for n in names if (folder / n).read_bytes() != (tmp_path / n).read_bytes()] == []


def test_the_pinned_map_of_a_manifest_is_kept_with_its_colours(copy: Path) -> None:
    pinned = numbered(4)
    assert load_model(copy).labels != pinned  # a config has no category ids
    manifest = write_manifest(copy, "train", inputs={}, settings={}, summary={}, labels=pinned)
    loaded = load_model(copy)
    assert loaded.labels == pinned
    assert loaded.digest == manifest.digest


def test_a_digest_is_that_of_the_manifest_only_while_the_files_are(copy: Path, folder: Path) -> None:
    assert load_model(copy).digest == load_model(folder).digest
    manifest = write_manifest(copy, "train", inputs={}, settings={}, summary={})
    save_model(new_model(copy, numbered(4), image_size=(32, 32), seed=0), copy)  # another preprocessor_config.json
    assert load_model(copy).digest not in (manifest.digest, load_model(folder).digest)


def test_outputs_called_unlabeled_are_no_class(copy: Path) -> None:
    """As in the published sidewalk models, which have 35 outputs, "unlabeled" first."""
    edit(copy / "config.json", id2label={"0": "unlabeled", "1": "road", "2": "curb", "3": "sky"})
    loaded = load_model(copy)
    assert loaded.names == ("unlabeled", "road", "curb", "sky")
    assert loaded.labels.names == ("road", "curb", "sky")
    assert loaded.labels.align(loaded.names).tolist() == [0, 1, 2, 3]


# -------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("size_hw", [(100, 75), (31, 47), HW, (9, 300)])
def test_images_become_what_the_saved_processor_makes_of_them(folder: Path, size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    theirs = processor(images=[image], return_tensors="pt")["pixel_values"]
    loaded = load_model(folder)
    ours = normalize(resize(image, loaded.size_hw)[None], mean=loaded.mean, std=loaded.std)
    assert torch.equal(ours, theirs)


def test_the_processor_reduces_labels_only_where_bytes_can_hold_them(config_only: Path, tmp_path: Path) -> None:
    for num_labels, reduces in ((254, True), (255, False)):
        out = tmp_path / str(num_labels)
        save_model(new_model(config_only, numbered(num_labels), image_size=HW, seed=0), out)
        processor = transformers.AutoImageProcessor.from_pretrained(out)
        assert processor.do_reduce_labels is reduces
    label = np.array([[0, 1], [2, 254]], np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "254", do_resize=False)
    image = np.zeros((2, 2, 3), np.uint8)
    reduced = processor(images=[image], segmentation_maps=[label], return_tensors="pt")["labels"][0]
    assert np.array_equal(reduced.numpy(), numbered(254).to_model_ids(label))


@pytest.mark.parametrize(
    "settings",
    [
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 0.9, 0.8]},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 50.0, 40.0]},
    ],
)
def test_a_scale_other_than_a_byte_goes_into_mean_and_std(copy: Path, settings: dict[str, Any]) -> None:
    edit(copy / "preprocessor_config.json", **settings)
    image = np.random.default_rng(0).integers(0, 256, (*HW, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(copy)
    theirs = processor(images=[image], return_tensors="pt")["pixel_values"]
    loaded = load_model(copy)
    ours = normalize(resize(image, HW)[None], mean=loaded.mean, std=loaded.std)
    torch.testing.assert_close(ours, theirs)


def test_a_model_for_bgr_images_gives_the_same_for_rgb_ones(tmp_path: Path) -> None:
    """MobileViT's processor turns the channels round; a saved model has the plain processor."""
    config = transformers.MobileViTConfig(
        hidden_sizes=[8, 8, 8],
        neck_hidden_sizes=[4, 4, 8, 8, 8, 8, 8],
        num_attention_heads=2,
        aspp_out_channels=8,
        image_size=64,
        id2label={0: "a", 1: "b", 2: "c"},
    )
    theirs = transformers.MobileViTForSemanticSegmentation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():  # as transformers draws them, no colour reaches the outputs
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    theirs.save_pretrained(tmp_path)
    processor = transformers.MobileViTImageProcessor(
        size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}, resample=2
    )
    processor.save_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = load_model(tmp_path, device="cpu")
    with torch.inference_mode():
        expected = theirs(**processor(images=[image], return_tensors="pt")).logits
        pixels = normalize(resize(image, ours.size_hw)[None], mean=ours.mean, std=ours.std)
        found, turned = ours.model(pixels).logits, ours.model(pixels.flip(1)).logits
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(turned, expected, rtol=0.01)


# -------------------------------------------------------------------- what is no model


def test_what_is_not_there_is_said_so(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelNotFound, match="is a file"):
        load_model(folder / "config.json")


def test_an_architecture_without_weights_cannot_segment(config_only: Path) -> None:
    with pytest.raises(ModelError, match="has no weights"):
        load_model(config_only)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"model_type": "bert"}', "no semantic segmentation model"),
        ("{}", "no semantic segmentation model"),
        ('{"model_type": "segformer", "depths": "x"}', "cannot read"),
    ],
)
def test_a_broken_config_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    for load in (load_model, lambda f: new_model(f, numbered(2), image_size=HW, seed=0)):
        with pytest.raises(ModelError, match=said) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_config_that_builds_nothing_is_one_line(config_only: Path, tmp_path: Path) -> None:
    shutil.copy(config_only / "config.json", tmp_path)
    edit(tmp_path / "config.json", hidden_sizes=[8])
    with pytest.raises(ModelError, match="builds no model"):
        new_model(tmp_path, numbered(2), image_size=HW, seed=0)


def test_weights_are_read_strictly(copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = load_file(path)
    dropped = sorted(whole)[0]

    def write(tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, path, metadata={"format": "pt"})

    write({k: v for k, v in whole.items() if k != dropped})
    for load in (load_model, read_weights):
        with pytest.raises(ModelError, match="lacks 1 of the model's weights"):
            load(copy)
    write(whole | {"decode_head.extra": torch.zeros(2)})
    with pytest.raises(ModelError, match=r"no place for \(decode_head\.extra\)"):
        load_model(copy)
    backbone = next(k for k in whole if k.startswith("segformer."))
    write({k: v for k, v in whole.items() if k != backbone})
    with pytest.raises(ModelError, match="of its backbone"):
        new_model(copy, numbered(4), image_size=HW, seed=0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(copy)


def test_weights_of_another_shape_are_not_taken(copy: Path) -> None:
    edit(copy / "config.json", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(ModelError, match=r"lacks 2 of the model's weights \(decode_head\.classifier\.bias\)"):
        load_model(copy)


def test_two_outputs_of_one_name_are_refused(copy: Path) -> None:
    edit(copy / "config.json", id2label={"0": "a", "1": "b", "2": "b", "3": "c"})
    with pytest.raises(ModelError, match="class names"):
        load_model(copy)


def test_a_pickle_is_read_where_there_is_nothing_else_and_never_run(copy: Path, tmp_path: Path) -> None:
    expected = state(load_model(copy))
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert_equal(state(load_model(copy)), expected)

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(copy)
    assert not (tmp_path / "ran").exists()


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="warp"):
        load_model(folder, device="warp:0")


# -------------------------------------------------------------------- from the Hub


def test_a_hub_id_with_revision_is_a_model(hub: LoopbackHub, folder: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("acme/tiny-segformer")
    api.upload_folder(repo_id="acme/tiny-segformer", folder_path=folder)
    api.create_tag("acme/tiny-segformer", tag="v1")
    for source in ("acme/tiny-segformer", "acme/tiny-segformer@v1"):
        loaded = load_model(source)
        assert_equal(state(loaded), state(load_model(folder)))
        assert (loaded.source, loaded.digest) == (source, load_model(folder).digest)
    with pytest.raises(ModelNotFound, match="no revision v2"):
        load_model("acme/tiny-segformer@v2")


def test_a_fetch_draws_no_bar_into_a_log_file(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    api = HfApi(token=WRITE_TOKEN)
    api.create_repo("acme/quiet-segformer")
    api.upload_folder(repo_id="acme/quiet-segformer", folder_path=folder)
    # its package has a class of the same name in the way
    monkeypatch.setattr(sys.modules["huggingface_hub.utils.tqdm"], "HF_HUB_DISABLE_PROGRESS_BARS", None)
    enable_progress_bars()
    capfd.readouterr()
    try:
        load_model("acme/quiet-segformer")
    finally:
        disable_progress_bars()
    assert capfd.readouterr().err == ""


def test_an_unknown_hub_id_is_said_so(hub: LoopbackHub) -> None:
    with pytest.raises(ModelNotFound, match="no folder acme/none and no model acme/none"):
        load_model("acme/none")
    with pytest.raises(ModelNotFound, match="neither a folder nor a Hub id"):
        load_model("acme/--..--")


def test_a_token_that_the_hub_refuses_is_said_so(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notOne")
    with pytest.raises(AuthError, match="does not let this token") as caught:
        load_model("acme/refused")
    assert "hf_notOne" not in repr(caught.value)


def test_a_hub_that_does_not_answer_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 did not answer"):
        load_model("acme/elsewhere")
