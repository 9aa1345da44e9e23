"""Recipes and `--set`: what can be asked of a run, and what is refused with its reason."""

import dataclasses
import json
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from transformers import TrainingArguments

from labelsync.errors import OptionError
from labelsync.training.arguments import REFUSED, parse_set, result_settings, training_arguments
from labelsync.training.knobs import Augment, Loss, Recipe, parse_size
from labelsync.training.recipe import builtin, load_recipe, settings
from labelsync.training.show import show_recipe
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


FIRST = {  # what a run of the demo recipe was called before there were further knobs
    "image_size": "144x192",
    "epochs": 56.0,
    "batch_size": 4,
    "learning_rate": 0.004,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup": 0.1,
    "augment": {
        "flip": 0.5,
        "scale": [1.0, 1.3],
        "aspect": [0.9, 1.11],
        "brightness": 0.25,
        "contrast": 0.25,
        "saturation": 0.25,
        "hue": 0.0,
    },
}


def test_a_run_of_an_old_recipe_is_still_the_same_run() -> None:
    """Its identity is these very settings: a finished run is not repeated after an upgrade."""
    assert settings(load_recipe("demo")) == FIRST


def test_later_knobs_are_in_the_identity_where_they_are_turned(tmp_path: Path) -> None:
    lines = MINIMAL | {"ema": "0.9", "patience": "0", "seed": "7"}
    path = toml(tmp_path, lines, augment={"max_class_share": "0.75"})
    path.write_text(path.read_text() + "[loss]\ndice = 0.5\nclass_weights = { car = 2.0 }\n")
    found = settings(load_recipe(path))
    assert found["ema"] == 0.9 and found["augment"]["max_class_share"] == 0.75
    assert found["loss"] == {"dice": 0.5, "class_weights": {"car": 2.0}}
    assert not {"patience", "seed", "steps"} & set(found)


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ("ema = 1.0", "has ema = 1.0", "less than 1"),
        ("accumulate = 0", "has accumulate = 0", "greater than or equal to 1"),
        ("head_factor = 0", "has head_factor = 0", "greater than 0"),
        ('optimizer = "adam"', "has optimizer = 'adam'", "'adamw'"),
        ('precision = "half"', "has precision = 'half'", "'bf16'"),
        ("compile = 1", "has compile = 1", "boolean"),
        ("[loss]\ndise = 1", "has an unknown key 'loss.dise'", "did you mean dice?"),
        ("[loss]\nohem = 0", "has loss.ohem = 0", "greater than 0"),
        ('[loss]\nclass_weights = "balance"', "has loss.class_weights = 'balance'", "'balanced'"),
        ("[loss]\nclass_weights = { car = -1 }", "has loss.class_weights", ""),
        ("[augment]\nmax_class_share = 0", "has augment.max_class_share = 0", "greater than 0"),
        ("steps = 5", "has both epochs and steps", "leave one of them out"),
    ],
)
def test_a_wrong_later_knob_is_named(tmp_path: Path, lines: str, message: str, hint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(f"{k} = {v}" for k, v in MINIMAL.items()) + f"\n{lines}\n")
    with pytest.raises(OptionError) as caught:
        load_recipe(path)
    assert message in caught.value.message and "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_recipe_may_count_steps_instead_of_epochs(tmp_path: Path) -> None:
    path = toml(tmp_path, {k: v for k, v in MINIMAL.items() if k != "epochs"} | {"steps": "500"})
    by_steps = load_recipe(path)
    assert of_recipe(by_steps).max_steps == 500
    by_epochs = load_recipe(path, epochs=3)
    assert (of_recipe(by_epochs).max_steps, of_recipe(by_epochs).num_train_epochs) == (-1, 3)
    assert of_recipe(by_steps, "max_steps=7").max_steps == 7


def test_seed_and_patience_are_the_recipes_unless_a_flag_says_otherwise(tmp_path: Path) -> None:
    path = toml(tmp_path, MINIMAL | {"seed": "7", "patience": "2"})
    assert (load_recipe(path).seed, load_recipe(path).patience) == (7, 2)
    assert (load_recipe(path, seed=0).seed, load_recipe(path, patience=0).patience) == (0, 0)
    with pytest.raises(OptionError, match="--patience is -1"):
        load_recipe(path, patience=-1)


def test_the_recipe_of_the_readme_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (shown,) = [part.partition("```")[0] for part in text.split("```toml\n") if part.startswith("# my-recipe.toml")]
    (tmp_path / "my-recipe.toml").write_text(shown)
    read = load_recipe(tmp_path / "my-recipe.toml")
    assert (read.steps, read.loss.class_weights, read.weight_decay) == (40_000, {"curb": 4.0}, 0.01)


# -------------------------------------------------------------------- showing them


@pytest.mark.parametrize("name", builtin())
def test_what_is_shown_is_the_recipe_with_every_knob_explained(name: str, tmp_path: Path) -> None:
    record = show_recipe(name)
    path = tmp_path / "shown.toml"
    path.write_text(record.toml)
    assert load_recipe(path) == load_recipe(name)
    read = tomllib.loads(record.toml)
    knobs = {f.name for kind in (Recipe, Augment, Loss) for f in dataclasses.fields(kind)} - {"augment", "loss"}
    assert record.knobs["augment.scale"] == str(read["augment"]["scale"])
    assert record.knobs["epochs"] == str(read["epochs"]) and len(record.knobs) == len(knobs) - 1
    lines = record.toml.splitlines()
    assert {line.partition(" = ")[0] for line in lines if " = " in line and line[0] != "#"} == knobs - {"steps"}
    bare = [line for above, line in pairwise(lines) if " = " in line and line[0] != "#" and not above.startswith("#")]
    assert [line.partition(" ")[0] for line in bare] == ["contrast", "saturation"]  # as `brightness` says
    assert max(map(len, lines)) <= 110


def test_flags_and_tables_are_shown_as_they_take_effect(tmp_path: Path) -> None:
    path = toml(tmp_path, {k: v for k, v in MINIMAL.items() if k != "epochs"} | {"steps": "500"})
    path.write_text(path.read_text() + '[loss]\nclass_weights = { "no \\"car\\"" = 2.0, tram = 1e-7 }\n')
    shown = tomllib.loads(show_recipe(path, image_size="48x64", seed=3).toml)
    assert (shown["steps"], shown["image_size"], shown["seed"]) == (500, "48x64", 3) and "epochs" not in shown
    assert shown["loss"]["class_weights"] == {'no "car"': 2.0, "tram": 1e-7}
    assert "epochs = 2.5" in show_recipe(path, epochs=2.5).toml


def test_the_flag_and_the_command_show_the_same(cli: Callable[..., Result]) -> None:
    by_command = cli("show-recipe", "fast", "--epochs", 3, "--seed", 5)
    by_flag = cli("train", "--seed", 5, "--show-recipe", "--recipe", "fast", "--epochs", 3)
    assert by_flag.stdout == by_command.stdout == show_recipe("fast", epochs=3, seed=5).toml
    as_json = cli("train", "--recipe=fast", "--show-recipe", "--json")
    assert json.loads(as_json.stdout)["knobs"]["head_factor"] == "10.0"
    assert cli("train", "data", "--out", "x", "--show-recipe").stdout == show_recipe().toml
    refused = cli("train", "--show-recipe", "--recipe", "slow", code=2)
    assert "there is no recipe 'slow'" in refused.stderr
    assert "Missing argument 'DATASET'" in cli("train", "--recipe", "fast", code=2).stderr


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


def of_recipe(chosen: Recipe, *items: str) -> TrainingArguments:
    return training_arguments(chosen, parse_set(items), checkpoints=Path("c"), seed=3, loaders=0)


def arguments(*items: str, **replaced: Any) -> TrainingArguments:
    return of_recipe(recipe(**replaced), *items)


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


def test_the_later_knobs_reach_the_trainer() -> None:
    of = arguments(accumulate=3, evaluations=4, compile=True, loss=Loss(smoothing=0.1))
    assert (of.gradient_accumulation_steps, of.label_smoothing_factor, of.torch_compile) == (3, 0.1, True)
    assert (of.eval_strategy, of.save_strategy, of.eval_steps, of.save_steps) == ("steps", "steps", 0.25, 0.25)
    assert arguments(evaluations=1).eval_steps < 1  # 1 would be every step
    assert arguments("eval_strategy=epoch", evaluations=4).eval_strategy == "epoch"
    plain = arguments()
    assert (plain.eval_strategy, plain.bf16, plain.torch_compile, plain.max_steps) == ("epoch", False, False, -1)
    assert not arguments(precision="auto").fp16


def test_what_transformers_refuses_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="transformers refuses these settings"):
        arguments("bf16=true", "fp16=true")
