"""`--set name=value`: any field of transformers' TrainingArguments, typed, except those that labelsync must hold.

What is refused says why. What changes only speed or logging is told apart from what changes the result, so that a run
can be resumed with other numbers of loading processes but not with another optimiser.
"""

import dataclasses
import difflib
import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from labelsync.errors import OptionError, first_line
from labelsync.training.knobs import Recipe

# Fields that have a flag of their own.
_FLAGS = {
    "output_dir": "--out",
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
    "report_to": "--report-to",
    "resume_from_checkpoint": "--resume",
    "overwrite_output_dir": "--overwrite",
}

_BY_PUSH = "a model is published by --push-to-hub or labelsync push, whole and verified"
_BEST = "the best model by mean_iou on the validation split is always the one that is kept"
_SAME_RUN = "a resumed run would not be the same run"
_ORDER = "the order of the samples comes from --seed"
_STREAM = "evaluation counts pixels as it goes and stores no predictions"
_SHARDS = "such checkpoints cannot be read back tensor by tensor; several GPUs work by accelerate launch"
_TEXT = "it is for language models"
_NOTHING = "it has no effect here"

REFUSED: Mapping[str, str] = {
    "hub_token": "it would be written to disk in clear; set HF_TOKEN instead",
    "push_to_hub": "use --push-to-hub, which sends whole and verified models and no arguments",
    **dict.fromkeys(("hub_model_id", "hub_strategy", "hub_private_repo"), _BY_PUSH),
    **dict.fromkeys(("hub_always_push", "hub_revision", "push_to_hub_token", "push_to_hub_model_id"), _BY_PUSH),
    "remove_unused_columns": "the rows are labelsync's own and hold nothing unused",
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), _BEST),
    **dict.fromkeys(("ignore_data_skip", "save_only_model", "auto_find_batch_size"), _SAME_RUN),
    **dict.fromkeys(("data_seed", "train_sampling_strategy", "group_by_length", "length_column_name"), _ORDER),
    **dict.fromkeys(("label_names", "include_for_metrics", "batch_eval_metrics", "prediction_loss_only"), _STREAM),
    **dict.fromkeys(("eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"), _STREAM),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _SHARDS),
    **dict.fromkeys(("neftune_noise_alpha", "use_liger_kernel", "liger_kernel_config", "use_cache"), _TEXT),
    **dict.fromkeys(("average_tokens_across_devices", "include_num_input_tokens_seen"), _TEXT),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "eval_on_start", "local_rank"), _NOTHING),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), "evaluation runs in float32, as labelsync evaluate"),
    "disable_tqdm": "the progress bar shows when stderr is a terminal, and only then",
    "restore_callback_states_from_checkpoint": "labelsync restores what it needs",
    "enable_jit_checkpoint": "Ctrl-C already leaves a checkpoint",
}

_REMEDY = "change --set, --report-to or the recipe"

# Values that would leave no best model or nothing to resume from.
_REFUSED_VALUES = {
    ("eval_strategy", "no"): "without evaluation there is no best model to keep",
    ("save_strategy", "no"): "without checkpoints there is no best model to keep",
    ("save_strategy", "best"): "a run can only be resumed from its newest checkpoint",
}

# Fields that change speed, logging or disk use, and not what is learned.
_FREE = (
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataloader_multiprocessing_context", "save_total_limit", "run_name", "project", "log_level"),
    *("log_level_replica", "log_on_each_node", "ddp_timeout", "skip_memory_metrics", "trackio_space_id"),
    *("trackio_bucket_id", "trackio_static_space_id", "per_device_eval_batch_size"),
)


def parse_set(items: Iterable[str]) -> dict[str, Any]:
    """("name=value", ...) -> TrainingArguments fields with values of their types.

    Raises:
        OptionError: not name=value, an unknown name, a value of another type, or a field that labelsync holds. A
            refused value is not repeated in the message: it may be a token.
    """
    parsed: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise OptionError(f"--set {name} has no value", hint="write --set name=value")
        _require_allowed(name)
        parsed[name] = _typed(name, text.strip())
        _require_value_allowed(name, parsed[name])
    return parsed


def result_settings(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `parsed` that changes what is learned, for the run's identity."""
    return {k: _plain(v) for k, v in sorted(parsed.items()) if k not in _FREE}


def training_arguments(
    recipe: Recipe,
    parsed: Mapping[str, Any],
    *,
    checkpoints: Path,
    seed: int,
    loaders: int,
    report_to: Sequence[str] = (),
) -> TrainingArguments:
    """The Trainer's arguments: what labelsync holds, over `--set`, over the recipe.

    Raises:
        OptionError: transformers refuses a value or a combination (bf16 where there is none, a missing tracker).
    """
    workers = int(parsed.get("dataloader_num_workers", loaders))
    offered: dict[str, Any] = {
        **_of_recipe(recipe),
        "logging_steps": 10,
        "save_total_limit": 2,
        "dataloader_num_workers": workers,
        "dataloader_persistent_workers": workers > 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        **({} if "lr_scheduler_type" in parsed else schedule(recipe)),
        **parsed,
    }
    held = {
        "output_dir": str(checkpoints),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "seed": seed,
        "report_to": list(report_to) or "none",
        "remove_unused_columns": False,
        "push_to_hub": False,
        # Not load_best_model_at_end: it would tie the save steps to the evaluation steps. The best one is loaded by us.
        "metric_for_best_model": "mean_iou",
        "greater_is_better": True,
        "disable_tqdm": True,
    }
    try:
        arguments = TrainingArguments(**(offered | held))
        for tracker in get_reporting_integration_callbacks(arguments.report_to):
            tracker()  # as the Trainer will, when it is too late to leave an earlier run alone
    except (ValueError, TypeError, ImportError, RuntimeError) as e:
        raise OptionError(f"transformers refuses these settings: {first_line(e, longest=1000)}", hint=_REMEDY) from None
    return arguments


def schedule(recipe: Recipe) -> dict[str, Any]:
    """The fields that make the recipe's schedule. transformers has no steps: the Trainer of ours knows their keys."""
    match recipe.schedule:
        case "polynomial":
            return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.0, "power": recipe.power}}
        case "step":
            steps = {"step_epochs": recipe.step_epochs, "gamma": recipe.gamma}
            return {"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": steps}
        case "constant":
            return {"lr_scheduler_type": "constant_with_warmup"}
        case _:
            return {"lr_scheduler_type": recipe.schedule}


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe's knobs that are fields of the Trainer's arguments."""
    fields: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "warmup_steps": recipe.warmup,  # below 1 it is a share of the steps
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "gradient_accumulation_steps": recipe.accumulate,
        "label_smoothing_factor": recipe.loss.smoothing,
    }
    if recipe.steps:
        fields["max_steps"] = recipe.steps
    if recipe.evaluations:
        every = 1 / recipe.evaluations if recipe.evaluations > 1 else 1 - 1e-9  # below 1 it is a share of the steps
        fields |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": every, "save_steps": every}
    if recipe.optimizer == "sgd":
        fields |= {"optim": "sgd", "optim_args": f"momentum={recipe.momentum}"}
    if recipe.precision != "float32":
        bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and _computes_in_bf16())
        fields |= {"bf16": bf16, "fp16": recipe.precision == "fp16"}
        if bf16 and not torch.accelerator.is_available():
            fields["use_cpu"] = True  # else transformers takes bf16 for a request for a GPU
    if recipe.compile:
        fields["torch_compile"] = True
    return fields


def _computes_in_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def _require_allowed(name: str) -> None:
    if name in _FLAGS:
        raise OptionError(f"--set {name} is not possible", hint=f"use {_FLAGS[name]}")
    if name in REFUSED:
        raise OptionError(f"--set {name} is refused: {REFUSED[name]}", hint="leave it out")
    if name not in _fields():
        close = difflib.get_close_matches(name, [n for n in _fields() if n not in REFUSED and n not in _FLAGS], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see the fields of transformers.TrainingArguments"
        raise OptionError(f"--set {name}: TrainingArguments has no field of that name", hint=hint)


def _require_value_allowed(name: str, value: Any) -> None:
    reason = _REFUSED_VALUES.get((name, str(_plain(value))))
    if name == "save_total_limit" and (value is None or value < 1):
        reason = "at least one checkpoint is kept"
    if reason:
        raise OptionError(f"--set {name}={_plain(value)} is refused: {reason}", hint="leave it out")


def _fields() -> dict[str, Any]:
    hints = typing.get_type_hints(TrainingArguments)
    return {f.name: hints[f.name] for f in dataclasses.fields(TrainingArguments) if f.init}


def _typed(name: str, text: str) -> Any:
    """`text` as the first of the field's types that it can be; text itself only where the field is free text."""
    kinds = _kinds(_fields()[name])
    enums = [k for k in kinds if isinstance(k, type) and issubclass(k, enum.Enum)]
    for kind in kinds:
        if kind is str and (enums or dict in kinds):
            continue  # "SchedulerType | str" means a name of the SchedulerType, "dict | str" the JSON of a dict
        try:
            return _as(kind, text)
        except ValueError:
            continue
    wanted = (
        " or ".join(str(m.value) for k in enums for m in k)
        if enums
        else " or ".join("none" if k is types.NoneType else str(k.__name__) for k in kinds)
    )
    raise OptionError(f"--set {name}={text}: the value cannot be used", hint=f"it takes {wanted}")


def _kinds(hint: Any) -> list[Any]:
    """The types of a field, narrow before wide: "2" is a number where the field takes numbers or text."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    flat = [typing.get_origin(k) or k for k in (typing.get_args(hint) if union else (hint,))]
    ranks = (types.NoneType, bool, enum.Enum, int, float, dict, list, str)
    known = [(next((i for i, r in enumerate(ranks) if _is(k, r)), None), k) for k in flat]
    return [k for i, k in sorted(((i, k) for i, k in known if i is not None), key=lambda pair: pair[0])]


def _is(kind: Any, rank: type) -> bool:
    return kind is rank or (rank is enum.Enum and isinstance(kind, type) and issubclass(kind, enum.Enum))


def _as(kind: Any, text: str) -> Any:
    """`text` as one type. Raises ValueError where it is not one."""
    if kind is types.NoneType:
        return _one_of(text, {"none": None, "null": None})
    if kind is bool:
        return _one_of(text, {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False})
    if kind is dict:
        value = json.loads(text)  # a JSONDecodeError is a ValueError
        if not isinstance(value, dict):
            raise ValueError(text)
        return value
    if kind is list:
        if "," not in text:
            raise ValueError(text)
        return [part.strip() for part in text.split(",")]
    return kind(text)


def _one_of(text: str, values: Mapping[str, Any]) -> Any:
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value
