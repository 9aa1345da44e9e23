"""`labelsync create-release`: makes a release, waits for it, and never makes another of its name."""

import pytest

import labelsync
from labelsync.release.platform import Platform
from tests.loopback.segments import LoopbackSegments
from tests.start.conftest import DATASET, Cli, last, record


@pytest.fixture(autouse=True)
def _dataset(server: LoopbackSegments) -> None:
    """A dataset with two samples."""
    categories = {"format_version": "0.1", "categories": [{"id": 1, "name": "road"}]}
    dataset = server.platform.create("acme", "sidewalk", task_attributes=categories)
    for name in ("a.jpg", "b.jpg"):
        server.platform.add_sample(dataset, {"name": name, "attributes": {"image": {"url": f"https://h/{name}"}}})


def test_a_release_is_made_waited_for_and_can_be_pulled(run: Cli, server: LoopbackSegments) -> None:
    done = run("create-release", DATASET, "v0.1", "--description", "the first")
    assert done.stdout == f"{DATASET}@v0.1: made (2 samples)\nlabelsync pull {DATASET}@v0.1\n"
    release = server.platform.dataset(DATASET).release("v0.1")
    assert (release.description, release.status) == ("the first", "SUCCEEDED")
    assert "2 unlabeled" in run("pull", f"{DATASET}@v0.1").stdout


def test_the_function_returns_the_finished_release(server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, str(value))
    found = labelsync.create_release(DATASET, name="v0.1")
    assert (found.dataset, found.release, found.samples, found.unchanged) == (DATASET, "v0.1", 2, False)
    assert found.created_at


def test_one_that_is_there_is_left_as_it_is(run: Cli, server: LoopbackSegments) -> None:
    run("create-release", DATASET, "v0.1")
    made = server.platform.dataset(DATASET).release("v0.1").uuid
    server.log.clear()
    again = run("create-release", DATASET, "v0.1")
    assert f"{DATASET}@v0.1: there already (2 samples, made 20" in again.stdout
    assert "labels drawn since then need a new name" in again.stdout
    assert record(run("create-release", DATASET, "v0.1", "--json"))["unchanged"]
    assert not server.log.find(method="POST")
    assert server.platform.dataset(DATASET).release("v0.1").uuid == made


def test_one_that_is_pending_is_waited_for(run: Cli, server: LoopbackSegments) -> None:
    server.platform.snapshot(server.platform.dataset(DATASET), "v0.1")
    run("create-release", DATASET, "v0.1")
    assert not server.log.find(method="POST")


@pytest.mark.parametrize("name", ["fix les labels", "a/b", "100%", "v1?x=1#y"])
def test_a_name_may_have_any_characters(run: Cli, server: LoopbackSegments, name: str) -> None:
    run("create-release", DATASET, name)
    assert list(server.platform.dataset(DATASET).releases) == [name]


@pytest.mark.parametrize("name", [" ", ".", "..", "a\x07b"])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(run: Cli, server: LoopbackSegments, name: str) -> None:
    assert "is no name of a release; write one as v0.2" in last(run("create-release", DATASET, name, code=2))
    assert len(server.log) == 0


def test_a_lost_answer_makes_no_second_release_and_no_error(run: Cli, server: LoopbackSegments) -> None:
    lost = server.faults.drop_response(method="POST", path="/releases/")
    run("create-release", DATASET, "v0.1")
    assert lost.hits == 1
    assert len(server.log.find(method="POST", path="/releases/")) == 1


def test_a_busy_server_is_asked_again(run: Cli, server: LoopbackSegments) -> None:
    server.faults.status(429, method="POST", times=2, headers={"Retry-After": "0"})
    run("create-release", DATASET, "v0.1")


def test_one_that_somebody_else_makes_in_that_moment_is_waited_for(
    run: Cli, server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.platform.snapshot(server.platform.dataset(DATASET), "v0.1")
    monkeypatch.setattr(Platform, "find_release", lambda *_: None)
    run("create-release", DATASET, "v0.1")
    assert [r.status for r in server.log.find(method="POST", path="/releases/")] == [400]


def test_one_that_fails_or_stays_pending_is_an_error(run: Cli, server: LoopbackSegments) -> None:
    server.platform.new_release_outcome = "FAILED"
    assert "release 'v0.1' of acme/sidewalk is FAILED on the server" in last(
        run("create-release", DATASET, "v0.1", code=1)
    )
    server.platform.new_release_polls = 10**6
    line = last(run("create-release", DATASET, "v0.2", "--wait", "0.1", code=1))
    assert "'v0.2' of acme/sidewalk is still PENDING after 0.1 s; run it again later, or raise --wait" in line
    assert "--wait is nan" in last(run("create-release", DATASET, "v0.3", "--wait", "nan", code=2))


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        (
            403,
            "You do not have permission",
            "the key may not make release 'v0.1' of acme/sidewalk (403 Forbidden: You",
        ),
        (
            400,
            "The dataset has no samples.",
            "will not make release 'v0.1' of acme/sidewalk (400 Bad Request: The",
        ),
        (500, "oops", "500 Internal Server Error"),
    ],
)
def test_a_refusal_is_one_line_with_the_reason(
    run: Cli, server: LoopbackSegments, code: int, message: str, says: str
) -> None:
    server.faults.status(code, method="POST", message=message, times=None)
    assert says in last(run("create-release", DATASET, "v0.1", code=1))


def test_a_dataset_that_is_not_there_is_named(run: Cli) -> None:
    assert "no dataset acme/walk on" in last(run("create-release", "acme/walk", "v0.1", code=1))
