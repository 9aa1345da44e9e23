"""The pure parts of a push: what is to be sent, how two people's README is one, what an error means."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import AuthError, OptionError, PublishError, ServiceError
from labelsync.hub.plan import LocalFile, Plan, RemoteFile, make_plan
from labelsync.hub.publication import in_memory
from labelsync.hub.readme import BEGIN, END, marked, merged
from labelsync.hub.refusals import Busy, HeadMoved, refusal

A, B = in_memory(b"aaa"), in_memory(b"bbbb")


def regular(data: bytes) -> RemoteFile:
    return RemoteFile(len(data), in_memory(data).git_oid)


def lfs(data: bytes) -> RemoteFile:
    return RemoteFile(len(data), "0" * 40, hashlib.sha256(data).hexdigest())


# -------------------------------------------------------------------- plan


@pytest.mark.parametrize(
    ("there", "owned", "plan"),
    [
        ({}, (), Plan(add=("a", "b"), delete=(), keep=(), size=7)),
        ({"a": regular(b"aaa"), "b": lfs(b"bbbb")}, (), Plan((), (), ("a", "b"), 0)),
        ({"a": regular(b"aab"), "b": lfs(b"bbba")}, (), Plan(("a", "b"), (), (), 7)),
        ({"a": lfs(b"aaa"), "b": regular(b"bbbb"), "c": lfs(b"c")}, ("c",), Plan((), ("c",), ("a", "b"), 0)),
        ({"a": regular(b"aaa"), "theirs": lfs(b"c")}, ("a", "gone"), Plan(("b",), (), ("a",), 4)),
    ],
)
def test_a_plan_sends_what_differs_and_deletes_what_is_ours_and_stale(
    there: dict[str, RemoteFile], owned: tuple[str, ...], plan: Plan
) -> None:
    assert make_plan({"b": B, "a": A}, there, owned=owned) == plan
    assert bool(plan) == bool(plan.add or plan.delete)


def test_the_git_name_of_a_file_is_gits(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"sidewalk\n" * 999)
    git = subprocess.run(["git", "hash-object", file], capture_output=True, text=True, check=True).stdout.strip()
    assert LocalFile(file, file.stat().st_size, "").git_oid == git
    assert in_memory(file.read_bytes()).git_oid == git


# -------------------------------------------------------------------- README

OURS = (
    "---\nsize_categories:\n- n<1K\ntags:\n- labelsync\n- robots\nconfigs:\n- config_name: default\n---\n# New\nours\n"
)


def test_a_first_readme_is_ours_with_its_body_marked() -> None:
    head, body = OURS[: OURS.index("# New")], OURS[OURS.index("# New") :]
    assert merged(None, OURS) == f"{head}{BEGIN}\n{body}{END}\n"
    assert marked(marked(OURS)) == marked(OURS)
    assert marked("no head") == f"{BEGIN}\nno head\n{END}\n"


def test_what_people_wrote_stays_where_it_is() -> None:
    head = "# see the wiki\nlicense: mit # asked Ana\ntags: [outdoor, robots]\nsize_categories:\n- 1K<n<10K\n"
    theirs = f"---\n{head}---\n\nBefore.\n{BEGIN}\nold\n{END}\n\nAfter.\n"
    assert merged(theirs, OURS) == (
        "---\n# see the wiki\nlicense: mit # asked Ana\ntags:\n- outdoor\n- robots\n- labelsync\n"
        "size_categories:\n- n<1K\n"
        f"configs:\n- config_name: default\n---\n\nBefore.\n{BEGIN}\n# New\nours\n{END}\n\nAfter.\n"
    )


@pytest.mark.parametrize(
    ("theirs", "both"),
    [
        ("tags: [x, labelsync]", "tags:\n- x\n- labelsync\n- robots\n"),
        ("tags: x", "tags:\n- x\n- labelsync\n- robots\n"),
        ("tags:\n  # mine\n  - x # why\n", "tags:\n  # mine\n  - x # why\n  - labelsync\n  - robots\n"),
        ("tags:\n- robots\n- labelsync", "tags:\n- robots\n- labelsync\n"),
        ("tags: {a: b}", "tags:\n- labelsync\n- robots\n"),
    ],
)
def test_tags_are_united(theirs: str, both: str) -> None:
    ours = "---\ntags:\n- labelsync\n- robots\n---\nours\n"
    assert merged(f"---\n{theirs.strip()}\n---\n", ours) == f"---\n{both}---\n{BEGIN}\nours\n{END}\n"


def test_a_readme_that_is_all_theirs_is_kept_whole() -> None:
    assert merged("# Mine\n\ntext", "ours\n") == f"# Mine\n\ntext\n\n{BEGIN}\nours\n{END}\n"
    assert merged("\n", "ours\n") == f"{BEGIN}\nours\n{END}\n"
    assert merged("---\nlicense: mit\n---\n", "ours\n") == f"---\nlicense: mit\n---\n{BEGIN}\nours\n{END}\n"


def test_a_marker_that_lost_its_partner_costs_no_text() -> None:
    damaged = f"{BEGIN}\nsomebody deleted the end\n\nprecious\n"
    once = merged(damaged, "ours\n")
    assert once.startswith(damaged.strip())
    assert merged(once, "newer\n") == once.replace("ours", "newer")


def test_backslashes_of_ours_are_text() -> None:
    assert "a \\1 b" in merged(f"{BEGIN}\nold\n{END}\n", "a \\1 b\n")


PIECES = st.sampled_from(
    [
        BEGIN,
        END,
        "---",
        "# Title",
        "text",
        "",
        "license: mit",
        "tags: [a, b]",
        "tags:",
        "- a",
        "  - c",
        "language: en",
        "# why",
    ]
)
READMES = st.lists(PIECES, max_size=9).map("\n".join)


@given(READMES, READMES, READMES)
def test_merging_twice_is_merging_once_and_the_last_ours_counts(theirs: str, ours: str, newer: str) -> None:
    once = merged(theirs, ours)
    assert merged(once, ours) == once
    twice = merged(once, newer)
    assert merged(twice, newer) == twice


@given(st.text(st.characters(exclude_characters="\r"), min_size=1))
def test_no_line_of_theirs_is_lost(text: str) -> None:
    theirs = f"# Mine\n{text}"
    assert merged(theirs, OURS).replace(marked(OURS).partition("---\n# ")[0], "").find(theirs.strip()) >= 0


# -------------------------------------------------------------------- refusals

HUB = "http://hub.test:80"


def answered(status: int, *, url: str = f"{HUB}/api/x", message: str = "", **headers: str) -> HfHubHTTPError:
    response = httpx.Response(status, headers=headers, request=httpx.Request("POST", url))
    return HfHubHTTPError("it failed", response=response, server_message=message)


def cause(error: Exception) -> RuntimeError:
    wrapped = RuntimeError("Error while uploading 'x' to the Hub.")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (answered(401), AuthError, "does not accept this token"),
        (answered(403, message="no\nway"), AuthError, "may not write to acme/x: no way"),
        (answered(403, message="storage quota"), PublishError, "no room for acme/x"),
        (answered(409), HeadMoved, "changed while this push ran"),
        (answered(412), HeadMoved, "changed while this push ran"),
        (answered(429, ratelimit='"api";r=0;t=55'), Busy, "try again in 55 s"),
        (answered(504, message="<html>"), ServiceError, "the Hub answers 504"),
        (cause(answered(403, url="http://s3.test/x?X-Amz-Signature=abc")), ServiceError, "storage s3.test of the Hub"),
        (
            cause(httpx.ConnectError("refused", request=httpx.Request("PUT", "http://s3.test/x"))),
            ServiceError,
            "s3.test",
        ),
        (httpx.ReadError("cut"), ServiceError, "no connection to hub.test: cut"),
        (ConnectionError("Error sending"), ServiceError, "no connection to the storage behind hub.test"),
        (LocalEntryNotFoundError("neither cached nor there"), ServiceError, "no connection to"),
        (OfflineModeIsEnabled("offline"), ServiceError, "HF_HUB_OFFLINE is set"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), ServiceError, "not the Hub's API"),
        (ValueError("Invalid metadata in README.md.\n- x"), PublishError, "was not taken: Invalid metadata"),
    ],
)
def test_what_an_error_of_the_client_means(error: Exception, kind: type[Any], says: str) -> None:
    refused = refusal(error, repo="acme/x", endpoint=HUB)
    assert type(refused) is kind
    assert says in str(refused)
    assert "\n" not in str(refused)
    assert refused.hint
    assert "Signature" not in str(refused)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x"), OSError(28, "No space left")])
def test_what_is_no_error_of_the_hub_goes_through(error: Exception) -> None:
    assert refusal(error, repo="acme/x", endpoint=HUB) is None


def test_a_token_in_an_answer_is_not_repeated() -> None:
    refused = refusal(answered(400, message="bad hf_abcdefghijkl here"), repo="acme/x", endpoint=HUB)
    assert "bad *** here" in str(refused)


def test_an_option_error_is_told_as_one() -> None:
    from huggingface_hub.errors import HFValidationError

    assert isinstance(refusal(HFValidationError("no"), repo="x", endpoint=HUB), OptionError)
