"""Tiny real models for tests: a SegFormer of 24 k parameters, as a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from labelsync.labels import LabelClass, LabelMap
from labelsync.taxonomy import palette

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from labelsync.model.loaded import LoadedModel

ARCHITECTURES = ("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2", "segformer", "upernet")

TINY = {
    "model_type": "segformer",
    "architectures": ["SegformerForSemanticSegmentation"],
    "num_channels": 3,
    "num_encoder_blocks": 4,
    "depths": [1, 1, 1, 1],
    "sr_ratios": [8, 4, 2, 1],
    "hidden_sizes": [8, 8, 16, 16],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 1, 2, 2],
    "mlp_ratios": [2, 2, 2, 2],
    "decoder_hidden_size": 16,
    "drop_path_rate": 0.0,
    "hidden_dropout_prob": 0.0,
    "classifier_dropout_prob": 0.0,
}


def label_map(*names: str) -> LabelMap:
    """A map of classes named so, in disk order, each with a colour of its own."""
    return LabelMap(tuple(LabelClass(n, (i,), palette(i)) for i, n in enumerate(names, 1)))


def numbered(num_labels: int) -> LabelMap:
    """A map of classes "class 1" .. "class K"."""
    return label_map(*(f"class {i}" for i in range(1, num_labels + 1)))


def tiny_segformer(
    folder: Path,
    labels: LabelMap | int = 4,
    *,
    weights: bool = False,
    image_size: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> Path:
    """A tiny SegFormer at `folder`: its config.json alone (random weights when trained from), or a whole model."""
    labels = numbered(labels) if isinstance(labels, int) else labels
    folder.mkdir(parents=True, exist_ok=True)
    names = labels.model_id2label
    config = TINY | {
        "id2label": {str(i): n for i, n in names.items()},
        "label2id": {n: i for i, n in names.items()},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if weights:
        from labelsync.model.load import new_model, save_model

        save_model(new_model(folder, labels, image_size=image_size, seed=seed), folder)
    return folder


def loud_segformer(
    folder: Path, labels: LabelMap | int = 4, *, image_size: tuple[int, int] = (64, 64), seed: int = 0
) -> Path:
    """A tiny SegFormer at `folder` with something to say about every class."""
    from labelsync.model.load import new_model, save_model

    labels = numbered(labels) if isinstance(labels, int) else labels
    config = tiny_segformer(folder, labels)
    save_model(loud(new_model(config, labels, image_size=image_size, seed=seed), seed=seed), folder)
    return folder


def loud(loaded: "LoadedModel", *, seed: int = 0) -> "LoadedModel":
    """The model with a head drawn wide enough for many classes to win somewhere."""
    import torch

    classifier = loaded.model.decode_head.classifier
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        classifier.weight.copy_(torch.randn(classifier.weight.shape, generator=generator))
    return loaded


def tiny_config(architecture: str) -> "PretrainedConfig":
    """A tiny config of one of `ARCHITECTURES`, for images of 64x64."""
    import transformers as t

    vit = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 36,
        "image_size": 64,
        "patch_size": 16,
    }
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    configs = {
        "beit": lambda: t.BeitConfig(**vit, out_indices=[1, 2, 3, 4]),
        "data2vec-vision": lambda: t.Data2VecVisionConfig(**vit, out_indices=[1, 2, 3, 4]),
        "dpt": lambda: t.DPTConfig(
            **vit, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16] * 4, fusion_hidden_size=16
        ),
        "mobilenet_v2": lambda: t.MobileNetV2Config(depth_multiplier=0.25, image_size=64),
        "mobilevit": lambda: t.MobileViTConfig(
            hidden_sizes=[16, 20, 24],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
            num_attention_heads=2,
            aspp_out_channels=16,
            image_size=64,
        ),
        "mobilevitv2": lambda: t.MobileViTV2Config(width_multiplier=0.25, aspp_out_channels=16, image_size=64),
        "segformer": lambda: t.SegformerConfig(**{k: v for k, v in TINY.items() if k not in ("model_type",)}),
        "upernet": lambda: t.UperNetConfig(
            backbone_config=t.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], **stages),
            hidden_size=16,
            auxiliary_in_channels=16,
            auxiliary_channels=8,
        ),
    }
    return configs[architecture]()
