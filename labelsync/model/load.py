"""Models in and out: a folder or a Hub id to a model with its classes and preprocessing, and back to a folder.

Weights are read strictly: transformers fills what a file lacks with random numbers and says so in a log line only;
here that is an error, except for a class head that is meant to be new. Code from a repo is never run.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from labelsync.errors import ModelError, TaxonomyError, first_line
from labelsync.labels import MAX_UINT8_CLASSES, UNLABELED, LabelMap, from_id2label
from labelsync.model import head
from labelsync.model.loaded import LoadedModel, pick_device
from labelsync.model.onnx import load_onnx
from labelsync.model.preprocess import Preprocessing, read_preprocessing, swap_color_channels, write_preprocessing
from labelsync.model.source import ModelFiles, locate
from labelsync.store.files import write_text
from labelsync.store.manifest import MANIFEST, read_manifest


def load_model(source: str | Path, *, device: str | None = None) -> LoadedModel:
    """A trained model, ready to segment.

    Args:
        source: a folder, a Hub id "user/name[@revision]", or an .onnx file of `labelsync.export`.
        device: "cuda", "cuda:1", "cpu", ...; None = a GPU if there is one.

    Raises:
        ModelNotFound: no model there.
        ModelError: not a semantic segmentation model, or weights missing, left over or of another shape.
        AuthError, ServiceError: the Hub refuses or cannot be reached.
    """
    files = locate(source)
    if files.file is not None:
        return load_onnx(files, device=device)
    config = _config(files)
    model, absent = _read(files, config)
    if absent:
        raise ModelError(
            f"{source} lacks {len(absent)} of the model's weights ({min(absent)})",
            hint="a backbone becomes a model by labelsync train --model",
        )
    names = _names(config)
    preprocessing = _to_rgb(files, model)
    placed: PreTrainedModel = torch.nn.Module.to(model, pick_device(device)).eval()
    return LoadedModel(
        model=placed,
        labels=_labels(files, names),
        names=names,
        size_hw=preprocessing.size_hw,
        mean=preprocessing.mean,
        std=preprocessing.std,
        source=files.source,
        digest=files.digest,
        revision=files.revision,
    )


def new_model(source: str | Path, labels: LabelMap, *, image_size: tuple[int, int], seed: int) -> LoadedModel:
    """A model for `labels` to be trained, with the weights of `source`, on the CPU.

    The head is fresh where the source has no such class; classes that it has keep their rows, by name. A folder with
    only a config.json gives the architecture with random weights. Every draw comes from `seed` alone.

    Args:
        source: a folder, or a Hub id "user/name[@revision]"; a classifier's backbone such as nvidia/mit-b0 will do.
        image_size: (height, width) that images are resized to.

    Raises:
        as `load_model`; missing weights are an error in the backbone only.
    """
    files = locate(source)
    config = _config(files)
    try:
        model = head.fresh(head.with_classes(config, labels), seed=seed)
    except Exception as e:  # noqa: BLE001 - a config that does not fit its architecture fails in any way
        raise ModelError(f"{source} has a config.json that builds no model ({first_line(e)})") from None
    note = "fresh"
    preprocessing = read_preprocessing(files.folder, config)
    if files.weights:
        old, absent = _read(files, config)
        preprocessing = _to_rgb(files, old)
        _require_backbone(files, old, absent)
        note = head.carry(model, old.state_dict(), old=_names(config), new=labels.names, absent=absent)
    return LoadedModel(
        model=model.eval(),
        labels=labels,
        names=labels.names,
        size_hw=image_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        source=files.source,
        digest=files.digest,
        revision=files.revision,
        head=note,
    )


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write model.safetensors, config.json, preprocessor_config.json and id2label.json into `folder`.

    transformers' `from_pretrained`, `AutoImageProcessor` and `pipeline("image-segmentation")` read the folder as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        loaded.model.save_pretrained(folder)
    reduce = loaded.names == loaded.labels.names and loaded.labels.num_labels <= MAX_UINT8_CLASSES
    write_preprocessing(folder, loaded.preprocessing, do_reduce_labels=reduce)
    write_text(folder / "id2label.json", loaded.labels.id2label_json())


def read_weights(folder: Path) -> PreTrainedModel:
    """The model in `folder` (a run folder or a checkpoint), every tensor accounted for.

    Raises:
        ModelNotFound, ModelError: as `load_model`.
    """
    files = locate(folder)
    model, absent = _read(files, _config(files))
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} of the model's weights ({min(absent)})")
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and its load report; what matters of it is an error or a note here."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


# -------------------------------------------------------------------- reading


def _config(files: ModelFiles) -> PretrainedConfig:
    """The config, of an architecture that segments."""
    if files.file is not None:
        raise ModelError(f"{files.source} is an ONNX file", hint="give the folder of the model it was exported from")
    try:
        kind = json.loads((files.folder / "config.json").read_bytes()).get("model_type")
    except (ValueError, AttributeError):
        raise ModelError(f"{files.source} has a config.json that is not a JSON object", hint="copy it again") from None
    if kind not in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
        known = ", ".join(sorted(MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES))
        raise ModelError(
            f"{files.source} is no semantic segmentation model (model_type {kind!r})", hint=f"it can be {known}"
        )
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(files.folder, trust_remote_code=False)
    except Exception as e:  # noqa: BLE001 - a broken config fails in any way
        raise ModelError(f"{files.source} has a config.json that transformers cannot read ({first_line(e)})") from None
    return config


def _read(files: ModelFiles, config: PretrainedConfig) -> tuple[PreTrainedModel, frozenset[str]]:
    """The model with its own classes, and the names of the tensors its files do not have (or have in another shape)."""
    if not files.weights:
        raise ModelError(f"{files.source} has no weights", hint="labelsync train makes them")
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, info = AutoModelForSemanticSegmentation.from_pretrained(
                files.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=files.weights[0].suffix == ".safetensors",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
    except Exception as e:  # noqa: BLE001 - torch, safetensors and pickle fail in any way over a broken file
        raise ModelError(
            f"the weights of {files.source} cannot be read ({first_line(e)})", hint="copy or download them again"
        ) from None
    mismatched = {key for key, *_ in info["mismatched_keys"]}
    absent = frozenset(info["missing_keys"]) | mismatched
    extra = set(info["unexpected_keys"])
    if extra and not absent:
        raise ModelError(
            f"{files.source} has {len(extra)} weights that its config.json has no place for ({min(extra)})"
        )
    return model, absent


def _require_backbone(files: ModelFiles, model: PreTrainedModel, absent: frozenset[str]) -> None:
    """Raises ModelError if tensors are absent that no fresh head may replace: those of the backbone."""
    prefix = (model.base_model_prefix if hasattr(model, model.base_model_prefix or "?") else "backbone") + "."
    lost = sorted(k for k in absent if k.startswith(prefix))
    if lost:
        whole = sum(k.startswith(prefix) for k in model.state_dict())
        raise ModelError(
            f"{files.source} lacks {len(lost)} of the {whole} weights of its backbone ({lost[0]})",
            hint="its config.json and its weights are of different models",
        )


def _to_rgb(files: ModelFiles, model: PreTrainedModel) -> Preprocessing:
    """The preprocessing of the source; a model that wants BGR becomes one that wants RGB, with the same outputs."""
    found = read_preprocessing(files.folder, model.config)
    if found.bgr:
        swap_color_channels(model)
    return replace(found, bgr=False)


def _names(config: PretrainedConfig) -> tuple[str, ...]:
    return tuple(str(name) for _, name in sorted((int(i), name) for i, name in (config.id2label or {}).items()))


def _labels(files: ModelFiles, names: tuple[str, ...]) -> LabelMap:
    """The pinned map of a run folder; without one, the outputs that are not called "unlabeled"."""
    if (files.folder / MANIFEST).is_file():
        labels = read_manifest(files.folder).labels
        if labels is not None and labels.names == names:
            return labels
    try:
        return from_id2label(dict(enumerate(n for n in names if n.lower() != UNLABELED)), keep_zero=True)
    except TaxonomyError as e:
        raise ModelError(f"the class names of {files.source} cannot be used: {e.message}", hint=e.hint) from None
