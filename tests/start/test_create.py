"""`labelsync create`: where categories come from, whose the dataset is, and what is never changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labelsync
from labelsync.labels import LabelClass, LabelMap
from labelsync.release.platform import Platform
from labelsync.sidewalk import preset
from labelsync.store.manifest import write_manifest
from tests.loopback.segments import LoopbackSegments
from tests.releases import draw_release, edit_release
from tests.start.conftest import DATASET, Cli, last, record


def made(server: LoopbackSegments, dataset: str = DATASET) -> list[dict[str, Any]]:
    """The categories of a dataset on the server."""
    categories: list[dict[str, Any]] = server.platform.dataset(dataset).task_attributes["categories"]
    return categories


def create(run: Cli, categories: object, *more: object, code: int = 0, dataset: str = DATASET) -> Any:
    return run("create", dataset, "--categories", categories, *more, code=code)


def test_the_preset_makes_the_34_classes_with_their_colours(run: Cli, server: LoopbackSegments) -> None:
    done = create(run, "sidewalk", "--description", "from the robot")
    assert done.stdout == f"{DATASET}: made (segmentation-bitmap, 34 categories, private)\n"
    assert [(c["id"], c["name"]) for c in made(server)] == [(c.id, c.name) for c in preset.CATEGORIES[1:]]
    car = next(c for c in made(server) if c["name"] == "vehicle-car")
    assert (car["color"], car["has_instances"]) == ([0, 0, 142], True)
    there = server.platform.dataset(DATASET)
    assert (there.task_type, there.description, there.public) == ("segmentation-bitmap", "from the robot", False)


def test_the_type_and_who_may_see_it_are_as_asked(run: Cli, server: LoopbackSegments) -> None:
    create(run, "sidewalk", "--task-type", "vector", "--public")
    there = server.platform.dataset(DATASET)
    assert (there.task_type, there.public) == ("vector", True)


def test_the_function_returns_what_was_made(server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, str(value))
    found = labelsync.create(DATASET, categories="sidewalk")
    assert (found.dataset, found.unchanged, found.page) == (DATASET, False, "")
    assert found.categories == preset.CATEGORIES[1:]


def test_only_the_deployment_of_segments_ai_has_a_known_page(
    server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, str(value))
    with Platform() as platform:
        assert platform.page_of(DATASET) == ""
        monkeypatch.setattr(platform, "_url", "https://api.segments.ai")
        assert platform.page_of(DATASET) == f"https://segments.ai/{DATASET}"


# -------------------------------------------------------------------- where categories come from

TOML = """
[[categories]]
name = "road"
id = 7
color = "#0a141e"

[[categories]]
name = "car"
id = 0
color = [1, 2, 3]
has_instances = true
"""
LISTED = [
    {"id": 7, "name": "road", "color": [10, 20, 30], "has_instances": False},
    {"id": 0, "name": "car", "color": [1, 2, 3], "has_instances": True},
]


def test_a_toml_file_lists_categories(run: Cli, server: LoopbackSegments) -> None:
    Path("c.toml").write_text(TOML)
    create(run, "c.toml")
    assert made(server) == LISTED


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"format_version": "0.1", "categories": c}])
def test_a_json_file_lists_categories_as_segments_shows_them(
    run: Cli, server: LoopbackSegments, wrap: Callable[[Any], Any]
) -> None:
    given = [LISTED[0] | {"color": [10, 20, 30, 255], "attributes": [], "lock": 1}, LISTED[1]]
    Path("c.json").write_text(json.dumps(wrap(given)))
    create(run, "c.json")
    assert made(server) == LISTED


def test_categories_without_numbers_and_colours_get_them(run: Cli, server: LoopbackSegments) -> None:
    Path("c.toml").write_text('[[categories]]\nname = "road"\n[[categories]]\nname = "car"\n')
    create(run, "c.toml")
    assert [(c["id"], c["name"]) for c in made(server)] == [(1, "road"), (2, "car")]
    assert made(server)[0]["color"] != made(server)[1]["color"]


def test_a_labels_file_names_the_classes(run: Cli, server: LoopbackSegments) -> None:
    Path("l.toml").write_text(
        'drop = ["x"]\n[classes]\nroad = ["a", "b"]\nman = {categories = ["c"], color = "#010203"}\n'
    )
    create(run, "l.toml")
    assert [(c["id"], c["name"]) for c in made(server)] == [(1, "road"), (2, "man")]
    assert made(server)[1]["color"] == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        {"0": "unlabeled", "1": "road", "2": "car"},  # disk ids
        {"0": "road", "1": "car"},  # model ids
        {"model_type": "segformer", "id2label": {"0": "road", "1": "car"}},
    ],
)
def test_an_id2label_is_numbered_by_disk_ids(run: Cli, server: LoopbackSegments, text: dict[str, Any]) -> None:
    Path("m").mkdir()
    Path("m/config.json").write_text(json.dumps(text))
    create(run, "m/config.json")
    create(run, "m", dataset="acme/two")
    for dataset in (DATASET, "acme/two"):
        assert [(c["id"], c["name"]) for c in made(server, dataset)] == [(1, "road"), (2, "car")]


def test_a_release_keeps_numbers_colours_and_attributes(run: Cli, server: LoopbackSegments, tmp_path: Path) -> None:
    path = draw_release(tmp_path / "drawn", samples=1, category_ids=(0, 300, 4), dataset="acme/old")
    attribute = {"name": "occluded", "input_type": "checkbox", "default_value": False}

    def change(document: dict[str, Any]) -> None:
        attributes = document["dataset"]["task_attributes"]
        attributes["image_attributes"] = [{"name": "rain", "input_type": "checkbox"}]
        attributes["categories"][1] |= {"attributes": [attribute], "color": [1.0, 2.0, 3.0]}

    edit_release(path, change)
    named = server.add_round(path)
    wanted = json.loads(path.read_text())["dataset"]["task_attributes"]["categories"]
    for i, source in enumerate((path, path.parent, named)):
        create(run, source, dataset=f"acme/new{i}")
        found = made(server, f"acme/new{i}")
        assert [(c["id"], c["name"], c["color"]) for c in found] == [(c["id"], c["name"], c["color"]) for c in wanted]
        assert found[1]["attributes"][0]["name"] == "occluded"
        assert all(c["has_instances"] for c in found)
        image = server.platform.dataset(f"acme/new{i}").task_attributes["image_attributes"]
        assert image[0]["name"] == "rain"


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [
        # every class is one category: their numbers are kept, those of classes that are gone not
        (
            [LabelClass("a", (10,)), LabelClass("gone", (11,), removed=True), LabelClass("c", (0,))],
            [(10, "a"), (0, "c")],
        ),
        # merged from several: disk ids
        ([LabelClass("a", (10, 12)), LabelClass("c", (0,))], [(1, "a"), (2, "c")]),
        # no categories at all, of a foreign dataset
        ([LabelClass("a"), LabelClass("c")], [(1, "a"), (2, "c")]),
        # what nobody drew is no category
        ([LabelClass("a", (5,)), LabelClass("background")], [(5, "a")]),
    ],
)
def test_a_folder_with_a_map_gives_its_classes(
    run: Cli, server: LoopbackSegments, classes: list[LabelClass], wanted: list[tuple[int, str]]
) -> None:
    unlabeled = "class" if classes[-1].name == "background" else "ignore"
    Path("data").mkdir()
    write_manifest(
        Path("data"), "convert", inputs={}, settings={}, summary={}, labels=LabelMap(tuple(classes), unlabeled)
    )
    create(run, "data")
    assert [(c["id"], c["name"]) for c in made(server)] == wanted


@pytest.mark.parametrize(
    ("code", "name", "text", "says"),
    [
        (2, "c.toml", "[[categories]", "is not TOML"),
        (2, "c.toml", '[[categories]]\nname = "a"\ncolour = 1', "has no 'colour' to set; there are id, name, color"),
        (2, "c.toml", '[[categories]]\nname = "a"\nid = -1', "category 'a' has the id -1"),
        (2, "c.toml", '[[categories]]\nname = "a"\nid = 1\n[[categories]]\nname = "b"', "1 of 2 categories have an id"),
        (1, "c.toml", '[[categories]]\nname = "a"\n[[categories]]\nname = "a"', "two classes are named 'a'"),
        (1, "c.toml", '[[categories]]\nname = "a"\nid = 1\n[[categories]]\nname = "b"\nid = 1', "id 1 occurs twice"),
        (2, "c.toml", '[[categories]]\nname = "a"\ncolor = "red"', "the color of class 'a' is 'red'"),
        (2, "c.toml", '[[categories]]\nname = "a"\nhas_instances = "no"', "has_instances is 'no'"),
        (2, "c.toml", "[[categories]]\nid = 1", "category 1 has no name"),
        (2, "c.toml", "categories = [1]", "categories is no list of tables"),
        (2, "c.toml", 'drop = ["a"]', "names no class"),
        (2, "c.json", "{", "is not JSON"),
        (2, "c.json", '"road"', "is neither a release nor categories nor an id2label"),
        (2, "c.json", '{"a": "b"}', "is neither a release nor categories nor an id2label"),
        (1, "c.json", "[]", "has no category"),
        (1, "c.json", '{"0": "a", "2": "b"}', "0..n or 1..n without a gap"),
        (1, "c.json", '{"dataset": {}}', "no release"),
        (
            1,
            "c.json",
            '[{"name": "a", "attributes": [{"name": "x", "input_type": "y"}]}]',
            "is nothing that Segments.ai takes",
        ),
    ],
)
def test_a_file_that_says_nothing_is_refused_before_anything_is_asked(
    run: Cli, server: LoopbackSegments, code: int, name: str, text: str, says: str
) -> None:
    Path(name).write_text(text)
    assert says in last(create(run, name, code=code))
    assert len(server.log) == 0


@pytest.mark.parametrize("source", ["sidewalks", "nothing.json", "acme/old", "empty"])
def test_a_source_that_is_none_is_told_what_there_is(run: Cli, source: str) -> None:
    Path("empty").mkdir()
    assert "owner/dataset@release" in last(create(run, source, code=2))


# -------------------------------------------------------------------- a dataset that is there


def test_the_same_again_is_unchanged_and_other_categories_are_refused(run: Cli, server: LoopbackSegments) -> None:
    create(run, "sidewalk")
    posts = len(server.log.find(method="POST"))
    assert (
        "there already (segmentation-bitmap, 34 categories, private; 0 samples), nothing to do"
        in create(run, "sidewalk").stdout
    )
    assert record(create(run, "sidewalk", "--json"))["unchanged"]
    Path("c.json").write_text(json.dumps({"1": "flat-road", "2": "grass"}))
    said = create(run, "c.json", code=1)
    assert f"{DATASET} exists with other categories: 2 is 'flat-sidewalk' there and 'grass' here" in last(said)
    assert "(and 32 more)" in last(said)
    assert "  34 'void-unclear' is only there" not in said.stderr  # the first 20 are listed
    assert "  8 'human-person' is only there" in said.stderr
    assert len(server.log.find(method="POST")) == posts
    assert len(made(server)) == 34


@pytest.mark.parametrize(
    ("more", "says"),
    [(["--task-type", "vector"], "task type segmentation-bitmap"), (["--public"], "exists and is private")],
)
def test_a_dataset_of_another_kind_is_refused(run: Cli, more: list[str], says: str) -> None:
    create(run, "sidewalk")
    assert says in last(create(run, "sidewalk", *more, code=1))


def test_instances_count_and_colours_do_not(run: Cli, server: LoopbackSegments) -> None:
    Path("c.toml").write_text(TOML)
    create(run, "c.toml")
    Path("c.toml").write_text(TOML.replace("#0a141e", "#000000"))
    create(run, "c.toml")
    Path("c.toml").write_text(TOML.replace("= true", "= false"))
    assert "0 'car' has instances there" in last(create(run, "c.toml", code=1))


def test_a_dry_run_makes_nothing(run: Cli, server: LoopbackSegments) -> None:
    said = create(run, "sidewalk", "--dry-run").stdout
    assert "would be made" in said and "  10 vehicle-car" in said
    assert server.platform.datasets == {}


# -------------------------------------------------------------------- whose it is


def test_an_owner_who_is_not_the_user_is_an_organization(run: Cli, server: LoopbackSegments) -> None:
    create(run, "sidewalk", dataset="acme-robotics/walk")
    assert server.platform.dataset("acme-robotics/walk").owner == "acme-robotics"
    assert server.log.find(method="POST", path="^/organizations/acme-robotics/")
    create(run, "sidewalk")
    assert server.log.find(method="POST", path="^/user/datasets/")


def test_an_organization_that_is_none_or_not_ours_is_told(run: Cli) -> None:
    line = last(create(run, "sidewalk", dataset="nobody/walk", code=1))
    assert "knows no organization 'nobody', and the key is that of user 'acme'; make it as acme/walk" in line
    line = last(create(run, "sidewalk", dataset="others/walk", code=1))
    assert "the key may not make others/walk (403 Forbidden: You do not have permission" in line


@pytest.mark.parametrize("name", ["sidewalk", "acme/", "a/b/c", "acme/..", "acme/a b", "acme/a@v1", "acme/\x07"])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(run: Cli, server: LoopbackSegments, name: str) -> None:
    assert "is no name of a dataset; write owner/name" in last(create(run, "sidewalk", dataset=name, code=2))
    assert len(server.log) == 0


def test_what_the_platform_does_not_like_is_said_in_its_words(run: Cli) -> None:
    line = last(create(run, "sidewalk", dataset="acme/what?", code=1))
    assert "will not make acme/what? (400 Bad Request: name: Enter a valid" in line


# -------------------------------------------------------------------- bad days


def test_a_lost_answer_makes_no_second_dataset_and_no_error(run: Cli, server: LoopbackSegments) -> None:
    lost = server.faults.drop_response(method="POST", path="/datasets/")
    create(run, "sidewalk")
    assert lost.hits == 1
    assert len(server.log.find(method="POST", path="/datasets/")) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(run: Cli, server: LoopbackSegments, code: int) -> None:
    server.faults.status(code, method="POST", times=2, html=code == 502, headers={"Retry-After": "0"})
    create(run, "sidewalk")
    assert len(server.log.find(method="POST", path="/datasets/")) == 3


def test_a_server_that_stays_down_is_said_to(run: Cli, server: LoopbackSegments) -> None:
    server.faults.status(503, method="POST", times=None)
    assert "503 Service Unavailable" in last(create(run, "sidewalk", code=1))
    assert server.platform.datasets == {}


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        (402, "Your free trial ended.", "the key may not make acme/sidewalk (402 Payment Required: Your free trial"),
        (403, "You have exceeded user limit.", "the key may not make acme/sidewalk (403 Forbidden: You have exceeded"),
        (401, "Invalid API key", "refuses the key in SEGMENTS_API_KEY (401 Unauthorized)"),
        (409, "A dataset with this name already exists.", "there is a dataset acme/sidewalk that the key may not see"),
    ],
)
def test_a_refusal_is_one_line_with_the_reason(
    run: Cli, server: LoopbackSegments, code: int, message: str, says: str
) -> None:
    server.faults.status(code, method="POST", message=message, times=None)
    assert says in last(create(run, "sidewalk", code=1))


def test_a_server_that_repeats_the_key_does_not_make_us_show_it(run: Cli, server: LoopbackSegments) -> None:
    from tests.loopback.segments import KEY

    server.faults.status(400, method="POST", message=f"bad request of {KEY}", times=None)
    assert "bad request of ***" in last(create(run, "sidewalk", code=1))  # `run` looks for the key everywhere


def test_no_key_and_a_dead_server_are_said(run: Cli) -> None:
    for more, says in (
        ({"SEGMENTS_API_KEY": None}, "SEGMENTS_API_KEY is not set"),
        ({"SEGMENTS_API_URL": "http://127.0.0.1:9"}, "the host cannot be reached"),
    ):
        assert says in last(run("create", DATASET, "--categories", "sidewalk", code=1, env=more))
