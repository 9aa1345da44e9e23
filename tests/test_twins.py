"""Every public verb is a function and a command with the same name, parameters and defaults."""

import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest.mock import patch

import pytest

import labelsync
from labelsync.cli.main import main
from labelsync.records.text import from_json

VERBS = tuple(main.commands)
EMPTY = inspect.Parameter.empty

# The shortest argv of each verb, and what its required parameters then are.
SHORTEST: dict[str, tuple[list[str], dict[str, Any]]] = {
    "create": (
        ["acme/walk", "--categories", "sidewalk"],
        {"dataset": "acme/walk", "categories": "sidewalk"},
    ),
    "add-images": (["acme/walk", "a.jpg", "images"], {"dataset": "acme/walk", "images": ("a.jpg", "images")}),
    "create-release": (["acme/walk", "v1"], {"dataset": "acme/walk", "name": "v1"}),
    "pull": (["acme/walk@v1"], {"source": "acme/walk@v1"}),
    "diff": (["acme/walk@v1", "v2.json"], {"old": "acme/walk@v1", "new": "v2.json"}),
    "convert": (["release", "--out", "data"], {"release": (Path("release"),), "out": Path("data")}),
    "check": (["acme/walk@v1"], {"source": "acme/walk@v1"}),
    "push": (["data", "--repo-id", "acme/walk"], {"path": Path("data"), "repo_id": "acme/walk"}),
    "verify": (["acme/walk@v1"], {"repo": "acme/walk@v1"}),
    "show-recipe": ([], {}),
    "train": (["acme/walk@v1", "--out", "run"], {"dataset": "acme/walk@v1", "out": Path("run")}),
    "evaluate": (["run", "--dataset", "acme/walk@v1"], {"model": "run", "dataset": "acme/walk@v1"}),
    "compare": (["e2", "--baseline", "e1"], {"new": Path("e2"), "baseline": Path("e1")}),
    "report": (["e2"], {"evaluation": Path("e2")}),
    "cache": ([], {}),
    "predict": (["run", "a.jpg", "images"], {"model": "run", "images": ("a.jpg", "images")}),
    "export": (["run", "--out", "m.onnx"], {"model": "run", "out": Path("m.onnx")}),
    "select": (["walk.mp4", "--model", "run", "--count", "9"], {"images": ("walk.mp4",), "model": "run", "count": 9}),
    "prelabel": ([], {}),
    "init": ([], {}),
    "run": ([], {}),
    "status": ([], {}),
    "promote": ([], {}),
    "rollback": ([], {}),
    "demo": ([], {}),
}

# What one more flag changes in the keyword arguments. Every flag of every verb occurs here.
FLAGS: dict[str, list[tuple[list[str], dict[str, Any]]]] = {
    "create": [
        (["--task-type", "vector"], {"task_type": "vector"}),
        (["--description", "in the rain"], {"description": "in the rain"}),
        (["--public"], {"public": True}),
        (["--dry-run"], {"dry_run": True}),
    ],
    "add-images": [
        (["--every", "3"], {"every": 3}),
        (["--metadata", "a=1", "--metadata", "b=2"], {"metadata": ("a=1", "b=2")}),
        (["--workers", "2"], {"workers": 2}),
        (["--ledger", "l.json"], {"ledger": Path("l.json")}),
        (["--dry-run"], {"dry_run": True}),
    ],
    "create-release": [
        (["--description", "in the rain"], {"description": "in the rain"}),
        (["--wait", "0.5"], {"wait": 0.5}),
    ],
    "pull": [
        (["--out", "deep/r"], {"out": Path("deep/r")}),
        (["--labelset", "second"], {"labelset": "second"}),
        (["--status", "LABELED,REVIEWED"], {"status": ("LABELED", "REVIEWED")}),
        (["--wait", "0.5"], {"wait": 0.5}),
        (["--workers", "2"], {"workers": 2}),
        (["--allow-failed", "3"], {"allow_failed": 3}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "diff": [
        (["--labelset", "second"], {"labelset": "second"}),
        (["--status", "REVIEWED"], {"status": ("REVIEWED",)}),
        (["--line-width", "3"], {"line_width": 3.0}),
        (["--wait", "0.5"], {"wait": 0.5}),
        (["--workers", "2"], {"workers": 2}),
        (["--allow-failed", "3"], {"allow_failed": 3}),
    ],
    "convert": [
        (["b", "c"], {"release": (Path("release"), Path("b"), Path("c"))}),
        (["--labels", "l.toml"], {"labels": Path("l.toml")}),
        (["--splits", "s.json"], {"splits": Path("s.json")}),
        (["--split-by", "metadata.split"], {"split_by": "metadata.split"}),
        (["--fractions", "0.5,0.25,0.25"], {"fractions": (0.5, 0.25, 0.25)}),
        (["--group-by", "metadata.sequence"], {"group_by": "metadata.sequence"}),
        (["--status", "REVIEWED"], {"status": ("REVIEWED",)}),
        (["--status", "LABELED,PRELABELED"], {"status": ("LABELED", "PRELABELED")}),
        (["--metadata", "a=1", "--metadata", "a=2"], {"metadata": ("a=1", "a=2")}),
        (["--unlabeled", "class"], {"unlabeled": "class"}),
        (["--previous", "acme/walk@v0"], {"previous": "acme/walk@v0"}),
        (["--line-width", "2.5"], {"line_width": 2.5}),
        (["--allow-renumbering"], {"allow_renumbering": True}),
        (["--columns", "image,label"], {"columns": "image,label"}),
        (["--format", "bitmaps"], {"format": "bitmaps"}),
        (["--workers", "2"], {"workers": 2}),
        (["--dask", "tcp://a:8786"], {"dask": "tcp://a:8786"}),
        (["--out", "s3://bucket/walk"], {"out": "s3://bucket/walk"}),
        (["--allow-failed", "3"], {"allow_failed": 3}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "check": [
        (["--strict"], {"strict": True}),
        (["--ignore", "duplicate,odd-size"], {"ignore": ("duplicate", "odd-size")}),
        (["--status", "REVIEWED"], {"status": ("REVIEWED",)}),
        (["--near", "20"], {"near": 20}),
        (["--min-labelled", "0.2"], {"min_labelled": 0.2}),
        (["--min-instance", "3"], {"min_instance": 3}),
        (["--limit", "0"], {"limit": 0}),
        (["--workers", "2"], {"workers": 2}),
        (["--model", "run"], {"model": "run"}),
        (["--min-contradicted", "0.7"], {"min_contradicted": 0.7}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--out", "looked"], {"out": Path("looked")}),
        (["--overwrite"], {"overwrite": True}),
        (["--open-issues"], {"open_issues": True}),
        (["--dry-run"], {"dry_run": True}),
    ],
    "push": [
        (["--tag", "v2"], {"tag": "v2"}),
        (["--move-tag"], {"move_tag": True}),
        (["--private"], {"private": True}),
        (["--revision", "staging"], {"revision": "staging"}),
        (["--create-pr"], {"create_pr": True}),
        (["--license", "cc-by-4.0"], {"license": "cc-by-4.0"}),
        (["--evaluation", "e"], {"evaluation": Path("e")}),
        (["--message", "Round two"], {"message": "Round two"}),
        (["--dry-run"], {"dry_run": True}),
    ],
    "verify": [
        (["--repo-type", "model"], {"repo_type": "model"}),
    ],
    "show-recipe": [
        (["quality"], {"recipe": "quality"}),
        (["--epochs", "2.5"], {"epochs": 2.5}),
        (["--batch-size", "4"], {"batch_size": 4}),
        (["--learning-rate", "1e-4"], {"learning_rate": 1e-4}),
        (["--image-size", "384x512"], {"image_size": "384x512"}),
        (["--patience", "3"], {"patience": 3}),
        (["--seed", "7"], {"seed": 7}),
    ],
    "train": [
        (["--model", "nvidia/mit-b2"], {"model": "nvidia/mit-b2"}),
        (["--recipe", "demo"], {"recipe": "demo"}),
        (["--epochs", "2.5"], {"epochs": 2.5}),
        (["--batch-size", "4"], {"batch_size": 4}),
        (["--learning-rate", "1e-4"], {"learning_rate": 1e-4}),
        (["--image-size", "384x512"], {"image_size": "384x512"}),
        (["--patience", "3"], {"patience": 3}),
        (["--seed", "7"], {"seed": 7}),
        (["--report-to", "tensorboard,wandb"], {"report_to": ("tensorboard", "wandb")}),
        (["--pictures", "0"], {"pictures": 0}),
        (["--push-to-hub", "acme/seg"], {"push_to_hub": "acme/seg"}),
        (["--published-as", "acme/walk@v1"], {"published_as": "acme/walk@v1"}),
        (["--set", "bf16=true", "--set", "eval_steps=5"], {"set": ("bf16=true", "eval_steps=5")}),
        (["--cache-images", "kept"], {"cache_images": Path("kept")}),
        (["--image-column", "photo"], {"image_column": "photo"}),
        (["--label-column", "annotation"], {"label_column": "annotation"}),
        (["--id2label", "huggingface/label-files:a.json"], {"id2label": "huggingface/label-files:a.json"}),
        (["--keep-zero"], {"keep_zero": True}),
        (["--config", "scene_parsing"], {"config": "scene_parsing"}),
        (["--resume"], {"resume": True}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "evaluate": [
        (["--split", "validation"], {"split": "validation"}),
        (["--out", "e"], {"out": Path("e")}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--flip"], {"flip": True}),
        (["--scales", "0.75,1,1.25"], {"scales": (0.75, 1.0, 1.25)}),
        (["--window", "384x512"], {"window": "384x512"}),
        (["--limit", "20"], {"limit": 20}),
        (["--align"], {"align": True}),
        (["--renamed", "a=b", "--renamed", "c=d"], {"renamed": ("a=b", "c=d")}),
        (["--by", "metadata.weather", "--by", "group"], {"by": ("metadata.weather", "group")}),
        (["--boundary", "0.02"], {"boundary": 0.02}),
        (["--resamples", "50"], {"resamples": 50}),
        (["--groups", "groups.toml"], {"groups": Path("groups.toml")}),
        (["--near-field", "0.9,0.3,0.5"], {"near_field": (0.9, 0.3, 0.5)}),
        (["--gate", "mean_iou >= 0.5", "--gate", "iou.a > 0"], {"gate": ("mean_iou >= 0.5", "iou.a > 0")}),
        (["--gates", "gates.toml"], {"gates": Path("gates.toml")}),
        (["--image-column", "photo"], {"image_column": "photo"}),
        (["--label-column", "annotation"], {"label_column": "annotation"}),
        (["--id2label", "huggingface/label-files:a.json"], {"id2label": "huggingface/label-files:a.json"}),
        (["--keep-zero"], {"keep_zero": True}),
        (["--config", "scene_parsing"], {"config": "scene_parsing"}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "compare": [
        (["--on-common"], {"on_common": True}),
        (["--fail-below", "0.3"], {"fail_below": 0.3}),
        (["--resamples", "50"], {"resamples": 50}),
        (["--gate", "delta.mean_iou >= -0.01"], {"gate": ("delta.mean_iou >= -0.01",)}),
        (["--gates", "gates.toml"], {"gates": Path("gates.toml")}),
        (["--dataset", "acme/walk@v1"], {"dataset": "acme/walk@v1"}),
        (["--out", "c"], {"out": Path("c")}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "report": [
        (["--baseline", "e1"], {"baseline": Path("e1")}),
        (["--on-common"], {"on_common": True}),
        (["--run", "model"], {"run": Path("model")}),
        (["--dataset", "acme/walk@v1"], {"dataset": "acme/walk@v1"}),
        (["--export", "export.json"], {"export": Path("export.json")}),
        (["--gate", "delta.mean_iou >= -0.01"], {"gate": ("delta.mean_iou >= -0.01",)}),
        (["--gates", "gates.toml"], {"gates": Path("gates.toml")}),
        (["--out", "r.html"], {"out": Path("r.html")}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "cache": [
        (["--clean"], {"clean": True}),
        (["--older-than", "30d"], {"older_than": "30d"}),
        (["--all"], {"all": True}),
        (["--verify"], {"verify": True}),
    ],
    "predict": [
        (["--out", "p"], {"out": Path("p")}),
        (["--split", "test"], {"split": "test"}),
        (["--no-overlays"], {"overlays": False}),
        (["--entropy"], {"entropy": True}),
        (["--probabilities"], {"probabilities": True}),
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--flip"], {"flip": True}),
        (["--scales", "0.75,1"], {"scales": (0.75, 1.0)}),
        (["--window", "384x512"], {"window": "384x512"}),
        (["--image-column", "photo"], {"image_column": "photo"}),
        (["--label-column", "annotation"], {"label_column": "annotation"}),
        (["--id2label", "huggingface/label-files:a.json"], {"id2label": "huggingface/label-files:a.json"}),
        (["--keep-zero"], {"keep_zero": True}),
        (["--config", "scene_parsing"], {"config": "scene_parsing"}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "select": [
        (["images"], {"images": ("walk.mp4", "images")}),
        (["--strategy", "diverse"], {"strategy": "diverse"}),
        (["--every", "3"], {"every": 3}),
        (["--out", "s"], {"out": Path("s")}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "export": [
        (["--takes", "frames"], {"takes": "frames"}),
        (["--gives", "classes"], {"gives": "classes"}),
        (["--dynamic", "batch,size"], {"dynamic": ("batch", "size")}),
        (["--opset", "20"], {"opset": 20}),
        (["--quantize", "int8"], {"quantize": "int8"}),
        (["--fp16"], {"fp16": True}),
        (["--dataset", "acme/walk@v1"], {"dataset": "acme/walk@v1"}),
        (["--split", "validation"], {"split": "validation"}),
        (["--images", "a.jpg", "--images", "photos"], {"images": ("a.jpg", "photos")}),
        (["--limit", "5"], {"limit": 5}),
        (["--tolerance", "0.01"], {"tolerance": 0.01}),
        (["--runs", "0"], {"runs": 0}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--gate", "onnx_p95_ms <= 50"], {"gate": ("onnx_p95_ms <= 50",)}),
        (["--gates", "gates.toml"], {"gates": Path("gates.toml")}),
        (["--image-column", "photo"], {"image_column": "photo"}),
        (["--label-column", "annotation"], {"label_column": "annotation"}),
        (["--id2label", "huggingface/label-files:a.json"], {"id2label": "huggingface/label-files:a.json"}),
        (["--keep-zero"], {"keep_zero": True}),
        (["--config", "scene_parsing"], {"config": "scene_parsing"}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "prelabel": [
        (["run", "acme/walk"], {"model": "run", "dataset": "acme/walk"}),
        (["--labelset", "second"], {"labelset": "second"}),
        (["--limit", "20"], {"limit": 20}),
        (["--min-size", "9"], {"min_size": 9}),
        (["--out", "p"], {"out": Path("p")}),
        (["--batch-size", "2"], {"batch_size": 2}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--dry-run"], {"dry_run": True}),
        (["--strategy", "flip+diverse"], {"strategy": "flip+diverse"}),
        (["--no-labels"], {"labels": False}),
        (["--undo", "p"], {"undo": Path("p")}),
    ],
    "init": [
        (["--out", "l.toml"], {"out": Path("l.toml")}),
        (["--dataset", "acme/walk"], {"dataset": "acme/walk"}),
        (["--overwrite"], {"overwrite": True}),
    ],
    "run": [
        (["l.toml"], {"config": Path("l.toml")}),
        (["--release", "v2"], {"release": "v2"}),
        (["--from", "train"], {"from_": "train"}),
        (["--until", "train"], {"until": "train"}),
        (["--force", "train", "--force", "push-model"], {"force": ("train", "push-model")}),
        (["--dry-run"], {"dry_run": True}),
    ],
    "status": [(["l.toml"], {"config": Path("l.toml")})],
    "promote": [(["l.toml"], {"config": Path("l.toml")}), (["--release", "v2"], {"release": "v2"})],
    "rollback": [(["l.toml"], {"config": Path("l.toml")})],
    "demo": [
        (["--out", "d"], {"out": Path("d")}),
        (["--seed", "7"], {"seed": 7}),
        (["--overwrite"], {"overwrite": True}),
    ],
}
ONLY_PYTHON = {"convert": {"executor"}}  # an object, which no command line can carry; --dask is its flag
PAIRS = ("diff",)  # of two things of one kind: both are positional
ROWS = [(verb, *row) for verb in VERBS for row in [([], {}), *FLAGS[verb]]]


def twin(verb: str) -> Any:
    return getattr(labelsync, verb.replace("-", "_"))


def parameters(verb: str) -> dict[str, inspect.Parameter]:
    """Of the function, as far as a flag can stand for them."""
    every = inspect.signature(twin(verb)).parameters
    return {name: p for name, p in every.items() if name not in ONLY_PYTHON.get(verb, ())}


def filled(kind: Any) -> Any:
    """A value of a type, with something in every field of a record."""
    if is_dataclass(kind):
        return kind(**{name: filled(t) for name, t in get_type_hints(kind).items()})
    if type(None) in get_args(kind):
        return filled(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return tuple(filled(t) for t in get_args(kind) if t is not ...)
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    return {"a": filled(get_args(kind)[1])} if get_origin(kind) is dict else kind(1)


def called(verb: str, argv: list[str], cli: Any) -> dict[str, Any]:
    """The arguments by name that the command gives to the verb's function."""
    function = twin(verb)
    record = filled(get_type_hints(function)["return"])
    with patch(f"{function.__module__}.{function.__name__}", autospec=True, return_value=record) as mock:
        done = cli(verb, *argv, "--json")
    assert from_json(type(record), done.stdout) == record
    (call,) = mock.call_args_list
    return dict(inspect.signature(function).bind(*call.args, **call.kwargs).arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_names_are_the_same_on_both_sides(verb):
    options = {p.name for p in main.commands[verb].params if p.expose_value} - {"as_json"}
    assert options == set(parameters(verb))
    assert "--json" in {o for p in main.commands[verb].params for o in p.opts}


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_are_the_same_on_both_sides(verb):
    argv, required = SHORTEST[verb]
    given = main.commands[verb].make_context(verb, list(argv)).params
    defaults = {name: p.default for name, p in parameters(verb).items() if p.default is not EMPTY}
    assert set(required) == set(parameters(verb)) - set(defaults)
    assert {name: given[name] for name in defaults} == defaults


@pytest.mark.parametrize("verb", VERBS)
def test_the_first_argument_is_positional_and_all_others_are_named(verb):
    kinds = [p.kind for p in parameters(verb).values()]
    arguments = [p.name for p in main.commands[verb].params if p.param_type_name == "argument"]
    for position, argument in enumerate(arguments[: 2 if verb in PAIRS else 1]):
        assert argument == list(parameters(verb))[position]
        assert kinds.pop(0) is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds) <= {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("verb", VERBS)
def test_a_path_may_be_a_string_in_python(verb):
    hints = get_type_hints(twin(verb))
    assert [n for n in parameters(verb) if hints[n] is Path or {Path, str} & {*get_args(hints[n])} == {Path}] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_in_the_table(verb):
    assert {name for _, changes in FLAGS[verb] for name in changes} | set(SHORTEST[verb][1]) == set(parameters(verb))


@pytest.mark.parametrize(("verb", "argv", "changes"), ROWS, ids=[" ".join([v, *argv]) for v, argv, _ in ROWS])
def test_argv_becomes_exactly_these_arguments(verb, argv, changes, cli):
    shortest, required = SHORTEST[verb]
    defaults = {name: p.default for name, p in parameters(verb).items() if p.default is not EMPTY}
    arguments = called(verb, [*shortest, *argv], cli)
    expected = defaults | required | changes
    assert arguments == expected
    assert {k: type(v) for k, v in arguments.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_docstring_of_the_function_names_every_parameter(verb):
    text = inspect.getdoc(twin(verb)) or ""
    assert [name for name in parameters(verb) if not re.search(rf"\b{name}(:|, \w+[:,])|`{name}`", text)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_says_what_it_does(verb):
    assert [p.name for p in main.commands[verb].params if p.param_type_name == "option" and not p.help] == []


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_value_is_refused_everywhere_but_in_texts_for_people(verb, cli):
    """A shell makes one of an unset variable in quotes, and a path would make the current folder of it."""
    shortest = SHORTEST[verb][0]
    for position in range(len(shortest)):
        argv = ["" if i == position else a for i, a in enumerate(shortest)]
        if not any(shortest[position] in p.opts for p in main.commands[verb].params):
            assert "the value is empty" in cli(verb, *argv, code=2).stderr
    for argv in [a for a, _ in FLAGS[verb] if len(a) > 1 and a[0].startswith("--")]:
        if argv[0] in ("--description", "--message", "--tag"):
            continue
        said = cli(verb, *shortest, argv[0], "", code=2).stderr
        assert f"Invalid value for '{argv[0]}" in said and "empty" in said
