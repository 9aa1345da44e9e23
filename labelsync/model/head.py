"""The class head: which tensors of an architecture belong to its classes, and new ones for another list of classes.

The head is found by building the architecture twice with different numbers of classes, so no table of layer names is
needed and auxiliary heads are found too.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForSemanticSegmentation, PretrainedConfig, PreTrainedModel

from labelsync.labels import LabelMap

State = Mapping[str, torch.Tensor]


def class_keys(config: PretrainedConfig) -> frozenset[str]:
    """Names of the tensors with one row (first axis) per class."""
    sizes = [_shapes(_sized(config, n)) for n in (2, 3)]
    return frozenset(k for k in sizes[0] if sizes[0][k] != sizes[1][k])


def with_classes(config: PretrainedConfig, labels: LabelMap) -> PretrainedConfig:
    """A copy of `config` for `labels`: model ids, names, and the ignore index under the key the architecture reads."""
    new = copy.deepcopy(config)
    new.id2label = labels.model_id2label
    new.label2id = {name: i for i, name in labels.model_id2label.items()}
    setattr(new, ignore_key(config), labels.ignore_index)
    return new


def ignore_key(config: PretrainedConfig) -> str:
    """UPerNet reads `loss_ignore_index`, every other architecture `semantic_loss_ignore_index`."""
    return "loss_ignore_index" if hasattr(config, "loss_ignore_index") else "semantic_loss_ignore_index"


def fresh(config: PretrainedConfig, *, seed: int) -> PreTrainedModel:
    """The architecture with weights drawn from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(config)


def build(config: PretrainedConfig) -> PreTrainedModel:
    """The architecture of `config`, weights from torch's global generator, float32."""
    model: PreTrainedModel = AutoModelForSemanticSegmentation.from_config(
        config, dtype=torch.float32, trust_remote_code=False
    )
    return model


def carry(
    model: PreTrainedModel, state: State, *, old: Sequence[str], new: Sequence[str], absent: frozenset[str]
) -> str:
    """Copy the weights `state` of a model with classes `old` into `model` with classes `new`.

    Rows of the head go from class to class by name, never by position. Tensors in `absent` were not in the source and
    keep what `model` has.

    Returns:
        What became of the head: "fresh", "kept" (same classes in the same order), or "7 of 12 classes carried over".
    """
    heads = class_keys(model.config)
    at = {name: i for i, name in enumerate(old)}
    pairs = [(i, at[name]) for i, name in enumerate(new) if name in at]
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key in absent or key not in state:
                continue
            if key not in heads:
                tensor.copy_(state[key])
            elif pairs:
                to, of = map(list, zip(*pairs, strict=True))
                tensor[to] = state[key][of]
    if not pairs or heads & absent:
        return "fresh"
    return "kept" if list(old) == list(new) else f"{len(pairs)} of {len(new)} classes carried over"


def _sized(config: PretrainedConfig, num_labels: int) -> PretrainedConfig:
    sized = copy.deepcopy(config)
    sized.id2label = {i: f"class {i}" for i in range(num_labels)}
    sized.label2id = {f"class {i}": i for i in range(num_labels)}
    return sized


def _shapes(config: PretrainedConfig) -> dict[str, Any]:
    with torch.device("meta"):
        return {k: v.shape for k, v in build(config).state_dict().items()}
