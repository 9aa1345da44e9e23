"""Recipes and `--set`: what can be asked of a run, and what is refused with its reason."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from labelsync.errors import OptionError
from labelsync.training.arguments import REFUSED, parse_set, result_settings, training_arguments
from labelsync.training.knobs import Augment, Recipe, parse_size
from labelsync.training.recipe import builtin, load_recipe, settings
from tests.training import recipe

MINIMAL = {"image_size": '"64"', "epochs": "2", "batch_size": "4", "learning_rate": "1e-3"}


def toml(folder: Path, lines: dict[str, str], *, augment: dict[str, str] | None = None, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    text = [f"{k} = {v}" for k, v in lines.items()] + ["[augment]"] + [f"{k} = {v}" for k, v in (augment or {}).items()]
    path.write_text("\n".join(text) + "\n")
    return path


# -------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", builtin())
def test_every_recipe_of_the_package_is_valid(name: str) -> None:
    assert load_recipe(name).size_hw[0] >= 32


def test_the_sidewalk_recipe_is_the_documents_with_a_schedule_and_a_zoom() -> None:
    sidewalk = load_recipe("sidewalk")
    assert sidewalk.learning_rate == 6e-5
    jitter = sidewalk.augment
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (0.25, 0.25, 0.25, 0.1)
    assert jitter.flip == 0.5 and jitter.scale == (0.5, 2.0)


def test_a_recipe_is_a_file_and_flags_replace_its_values(tmp_path: Path) -> None:
    path = toml(tmp_path, MINIMAL, augment={"flip": "0.5", "scale": "[0.5, 2]"})
    read = load_recipe(path, epochs=5.5, batch_size=None, image_size="48x64")
    expected = Recipe("48x64", 5.5, 4, 1e-3, augment=Augment(flip=0.5, scale=(0.5, 2.0)))
    assert read == load_recipe(str(path), epochs=5.5, image_size="48x64") == expected
    assert read.size_hw == (48, 64)


def test_settings_are_plain_data() -> None:
    assert settings(recipe())["augment"]["scale"] == [0.5, 2.0]


@pytest.mark.parametrize(
    ("lines", "augment", "message", "hint"),
    [
        ({"epoch": "3"}, {}, "has an unknown key 'epoch'", "did you mean epochs?"),
        ({}, {"flips": "0.5"}, "has an unknown key 'augment.flips'", "did you mean flip?"),
        ({"zzz": "1"}, {}, "has an unknown key 'zzz'", "there are: image_size, epochs"),
        ({"epochs": "0"}, {}, "has epochs = 0, which cannot be used", "greater than 0"),
        ({"epochs": "inf"}, {}, "has epochs", "finite"),
        ({"epochs": '"many"'}, {}, "has epochs = 'many'", "number"),
        ({"epochs": "true"}, {}, "has epochs = True", "number"),
        ({"batch_size": "2.5"}, {}, "has batch_size = 2.5", "integer"),
        ({"batch_size": '"8"'}, {}, "has batch_size = '8'", "integer"),
        ({"schedule": '"cosin"'}, {}, "has schedule = 'cosin'", "'cosine'"),
        ({"warmup": "1"}, {}, "has warmup = 1", "less than 1"),
        ({}, {"flip": "2"}, "has augment.flip = 2", "less than or equal to 1"),
        ({}, {"hue": "0.6"}, "has augment.hue = 0.6", "0.5"),
        ({}, {"scale": "[2, 0.5]"}, "has augment.scale", "the lower bound 2.0 is above the upper bound 0.5"),
        ({}, {"scale": "2"}, "has augment.scale = 2", "array"),
        ({}, {"scale": "[0, 1]"}, "has augment.scale = 0", "0.1"),
        ({"image_size": '"big"'}, {}, "image size 'big' cannot be used", "512"),
        ({"image_size": "1979-05-27"}, {}, "image size '1979-05-27' cannot be used", "512"),
    ],
)
def test_a_wrong_key_is_named(
    tmp_path: Path, lines: dict[str, str], augment: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(OptionError) as caught:
        load_recipe(toml(tmp_path, MINIMAL | lines, augment=augment))
    assert message in caught.value.message and "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="lacks 'learning_rate'"):
        load_recipe(toml(tmp_path, {k: v for k, v in MINIMAL.items() if k != "learning_rate"}))


def test_a_flag_is_named_as_a_flag() -> None:
    with pytest.raises(OptionError, match="--batch-size is 0, which cannot be used"):
        load_recipe("demo", batch_size=0)
    with pytest.raises(OptionError, match="--learning-rate is nan"):
        load_recipe("demo", learning_rate=float("nan"))
    with pytest.raises(OptionError, match="image size '12x' cannot be used"):
        load_recipe("demo", image_size="12x")


def test_an_unknown_recipe_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no recipe 'sidewak'; did you mean sidewalk\?"):
        load_recipe("sidewak")
    with pytest.raises(OptionError, match="there is no recipe"):
        load_recipe(tmp_path)
    (tmp_path / "cut.toml").write_text("epochs = ")
    with pytest.raises(OptionError, match="is not TOML"):
        load_recipe(tmp_path / "cut.toml")


@pytest.mark.parametrize(("text", "size"), [("512", (512, 512)), ("384x512", (384, 512)), (" 64X32 ", (64, 32))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "1", "-5", "64x", "x64", "64x64x3", "9999", "5e2"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="cannot be used"):
        parse_size(text)


# -------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("max_steps=3", 3),
        ("weight-decay=0.1", 0.1),
        ("warmup_steps=5", 5.0),
        ("bf16=true", True),
        ("bf16=False", False),
        ("tf32=none", None),
        ("save_steps = 7", 7.0),
        ("lr_scheduler_type=cosine", "cosine"),
        ('lr_scheduler_kwargs={"num_cycles": 2}', {"num_cycles": 2}),
        ("run_name=a=b", "a=b"),
        ("optim=adamw_torch", "adamw_torch"),
    ],
)
def test_values_get_the_type_of_their_field(item: str, value: Any) -> None:
    (parsed,) = parse_set([item]).values()
    assert parsed == value and type(parsed).__name__ in (type(value).__name__, "SchedulerType", "OptimizerNames")


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ("max_steps", "--set max_steps has no value", "name=value"),
        ("max_steps=many", "--set max_steps=many: the value cannot be used", "int"),
        ("max_steps=2.5", "--set max_steps=2.5", "int"),
        ("bf16=maybe", "--set bf16=maybe", "bool"),
        ("lr_scheduler_type=cosin", "--set lr_scheduler_type=cosin", "cosine"),
        ("lr_scheduler_kwargs=[1]", "--set lr_scheduler_kwargs=[1]", "dict"),
        ("weight_decai=1", "TrainingArguments has no field of that name", "did you mean weight_decay"),
        ("evaluation_strategy=steps", "no field of that name", "eval_strategy"),
        ("eval_strategy=no", "no best model", "leave it out"),
        ("save_strategy=no", "no best model", "leave it out"),
        ("save_strategy=best", "newest checkpoint", "leave it out"),
        ("save_total_limit=0", "at least one checkpoint", "leave it out"),
        ("num_train_epochs=3", "--set num_train_epochs is not possible", "use --epochs"),
        ("per_device_train_batch_size=3", "not possible", "use --batch-size"),
        ("learning_rate=3", "not possible", "use --learning-rate"),
        ("output_dir=x", "not possible", "use --out"),
        ("seed=3", "not possible", "use --seed"),
        ("report_to=wandb", "not possible", "use --report-to"),
        ("resume_from_checkpoint=x", "not possible", "use --resume"),
    ],
)
def test_what_cannot_be_set_says_why(item: str, message: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_set([item])
    assert message in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("name", REFUSED)
def test_refused_fields_never_repeat_their_value(name: str) -> None:
    with pytest.raises(OptionError, match=f"--set {name} is refused: ") as caught:
        parse_set([f"{name}=hf_abcdefgh"])
    assert "hf_abcdefgh" not in str(caught.value)


def test_a_token_cannot_come_in_by_any_field_of_that_kind() -> None:
    names = [f.name for f in dataclasses.fields(TrainingArguments)]
    assert [n for n in names if ("token" in n or "hub" in n) and n not in REFUSED] == []


def test_what_only_changes_speed_is_no_part_of_the_run() -> None:
    parsed = parse_set(["dataloader_num_workers=2", "log_level=info", "max_steps=3", "optim=adamw_torch"])
    assert result_settings(parsed) == {"max_steps": 3, "optim": "adamw_torch"}


def arguments(*items: str, **replaced: Any) -> TrainingArguments:
    return training_arguments(recipe(**replaced), parse_set(items), checkpoints=Path("c"), seed=3, loaders=0)


def test_the_recipe_reaches_the_trainer() -> None:
    of = arguments(learning_rate=0.5, batch_size=3, epochs=1.5, weight_decay=0.25, warmup=0.125)
    assert (of.learning_rate, of.per_device_train_batch_size, of.num_train_epochs) == (0.5, 3, 1.5)
    assert (of.weight_decay, of.warmup_steps, of.seed) == (0.25, 0.125, 3)
    assert of.lr_scheduler_type == "polynomial" and of.lr_scheduler_kwargs == {"lr_end": 0.0, "power": 1.0}
    assert not of.remove_unused_columns and not of.push_to_hub and of.report_to == []


def test_set_wins_over_the_recipe() -> None:
    of = arguments("weight_decay=0.5", "lr_scheduler_type=cosine")
    assert of.weight_decay == 0.5
    assert of.lr_scheduler_type == "cosine" and not of.lr_scheduler_kwargs


@pytest.mark.parametrize("schedule", ["polynomial", "linear", "cosine", "constant"])
def test_every_schedule_is_known_to_the_trainer(schedule: str) -> None:
    import torch

    of = arguments(schedule=schedule, warmup=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    from transformers import get_scheduler

    rates = []
    scheduler = get_scheduler(
        of.lr_scheduler_type, optimizer, of.get_warmup_steps(20), 20, of.lr_scheduler_kwargs or None
    )
    for _ in range(20):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0 and max(rates) == rates[2] == 1.0
    assert scheduler.get_last_lr()[0] == (1.0 if schedule == "constant" else pytest.approx(0, abs=1e-9))


def test_what_transformers_refuses_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="transformers refuses these settings"):
        arguments("bf16=true", "fp16=true")
