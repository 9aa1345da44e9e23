"""`labelsync diff` through the command, on drawn rounds: counted again here, pixel by pixel."""

import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result

import labelsync
from labelsync.errors import OptionError
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.records.changes import DiffRecord
from labelsync.records.text import from_json
from labelsync.release import diff as verb
from tests.loopback.segments import LoopbackSegments
from tests.releases import draw_release, sample_uuid

Cli = Callable[..., Result]
Entry = dict[str, Any]
SECRET = "5ecret"
NAMES = {0: "unlabeled", 1: "class-1", 2: "lawn", 3: "class-3"}  # category 2 is class-2 in the first round


def uuid(index: int) -> str:
    return sample_uuid(index)


def label(entry: Entry) -> Entry:
    return entry["labels"]["ground-truth"]  # type: ignore[no-any-return]


def attributes(entry: Entry) -> Entry:
    return label(entry)["attributes"]  # type: ignore[no-any-return]


class Rounds:
    """A drawn release served under one address, and a second round of it, both with signed URLs."""

    def __init__(self, folder: Path, server: LoopbackSegments) -> None:
        self.folder, self.server = folder, server
        self.first = json.loads(draw_release(folder, samples=11, base_url=server.mount(folder)).read_text())
        self.entries = {e["uuid"]: e for e in self.first["dataset"]["samples"]}
        self.second = copy.deepcopy(self.first)
        self.second["name"] = "v2.0"
        self.later = {e["uuid"]: e for e in self.second["dataset"]["samples"]}

    def bitmap(self, entry: Entry) -> npt.NDArray[np.uint32]:
        name = attributes(entry)["segmentation_bitmap"]["url"].rpartition("/")[2]
        return decode_instance_bitmap((self.folder / "bitmaps" / name).read_bytes())

    def redraw(self, entry: Entry, instances: npt.NDArray[np.uint32]) -> None:
        """A new bitmap under a new URL."""
        url = attributes(entry)["segmentation_bitmap"]["url"].removesuffix(".png") + "-b.png"
        (self.folder / "bitmaps" / url.rpartition("/")[2]).write_bytes(encode_instance_bitmap(instances))
        attributes(entry)["segmentation_bitmap"]["url"] = url

    def renumber(self, entry: Entry) -> None:
        """Every instance under another id, in a new bitmap."""
        instances = self.bitmap(entry)
        self.redraw(entry, np.where(instances > 0, instances + 70_000, 0).astype(np.uint32))
        for a in attributes(entry)["annotations"]:
            a["id"] += 70_000

    def categories(self, entry: Entry) -> npt.NDArray[np.int64]:
        """(H, W) category ids of a label, counted out instance by instance."""
        instances = self.bitmap(entry)
        pixels = np.zeros(instances.shape, np.int64)
        for a in attributes(entry)["annotations"]:
            pixels[instances == a["id"]] = a["category_id"]
        return pixels

    def files(self) -> tuple[Path, Path]:
        """Both release files, with signed URLs."""
        paths = self.folder / "release-v1.json", self.folder / "release-v2.json"
        for path, document, sign in zip(paths, (self.first, self.second), ("old", SECRET), strict=True):
            signed = json.dumps(document).replace('.png"', f'.png?X-Amz-Signature={sign}"')
            path.write_text(signed.replace('.jpg"}', f'.jpg?X-Amz-Signature={sign}"}}'))
        return paths


@pytest.fixture
def rounds(tmp_path: Path, server: LoopbackSegments) -> Rounds:
    """Two rounds with one change of every kind."""
    made = Rounds(tmp_path / "drawn", server)
    old, new = made.entries, made.later
    other = {1: 2, 2: 3, 3: 1}
    for i in (0, 1):  # a wrong category: only in the JSON; and with ids renumbered
        first = attributes(new[uuid(i)])["annotations"][0]
        first["category_id"] = other[first["category_id"]]
    made.renumber(new[uuid(1)])
    made.redraw(new[uuid(2)], np.roll(made.bitmap(new[uuid(2)]), 5, axis=1))
    label(new[uuid(3)])["label_status"] = "REVIEWED"
    old[uuid(4)]["labels"]["ground-truth"] = None
    made.first["dataset"]["samples"].remove(old[uuid(5)])
    made.second["dataset"]["samples"].remove(new[uuid(6)])
    label(new[uuid(7)])["label_status"] = "SKIPPED"
    made.renumber(new[uuid(8)])
    attributes(new[uuid(9)])["annotations"].reverse()
    made.second["dataset"]["samples"].reverse()
    made.second["dataset"]["task_attributes"]["categories"][1]["name"] = "lawn"
    return made


CHANGES = {
    0: "relabelled",
    1: "relabelled",
    2: "relabelled",
    3: "status",
    4: "labelled",
    5: "added",
    6: "removed",
    7: "unlabelled",
    8: "redrawn",
}  # 9 and 10 are unchanged


def flow_of(old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> Counter[tuple[str, str]]:
    pairs = zip(old.ravel().tolist(), new.ravel().tolist(), strict=True)
    return Counter((NAMES[a], NAMES[b]) for a, b in pairs if a != b)


def pairs_of(flow: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(a, b): n for a, row in flow.items() for b, n in row.items()}


def diffed(cli: Cli, *argv: object, **kwargs: Any) -> DiffRecord:
    return from_json(DiffRecord, cli("diff", *argv, "--json", **kwargs).stdout)


@pytest.mark.parametrize("kind", ["files", "folders", "names", "file and folder", "url and name"])
def test_every_change_of_a_round_is_told_exactly(rounds: Rounds, server: LoopbackSegments, cli: Cli, kind: str) -> None:
    files = rounds.files()
    folders = [labelsync.pull(f, out=rounds.folder / f.stem).path for f in files] if "folder" in kind else []
    names = [server.add_round(f) for f in files] if "name" in kind else []
    sources = {
        "files": files,
        "folders": folders,
        "names": names,
        "file and folder": [files[0], *folders[1:]],
        "url and name": [f"{server.mount(rounds.folder)}release-v1.json?X-Amz-Signature=x", *names[1:]],
    }[kind]
    record = diffed(cli, *sources, env=server.env)
    assert {u: s.change for u, s in record.samples.items()} == {uuid(i): c for i, c in CHANGES.items()}
    assert record.totals == {c: list(CHANGES.values()).count(c) for c in record.totals} | {"unchanged": 2}
    assert (record.old.samples, record.old.labelled, record.new.samples, record.new.labelled) == (10, 9, 10, 9)
    assert record.statuses == {"LABELED": {"REVIEWED": 1, "SKIPPED": 1}, "UNLABELED": {"LABELED": 1}}
    assert record.categories.renamed == (("class-2", "lawn"),)

    blank = np.zeros((48, 64), np.int64)
    flows = {
        i: flow_of(
            blank if i in (4, 5) else rounds.categories(rounds.entries[uuid(i)]),
            blank if i in (6, 7) else rounds.categories(rounds.later[uuid(i)]),
        )
        for i in (*range(3), *range(4, 9))
    }
    assert all(flows[i] for i in flows if i != 8), "the rounds have a change that is none"
    for i, flow in flows.items():
        assert pairs_of(record.samples[uuid(i)].flow) == flow
        assert record.samples[uuid(i)].pixels == flow.total()
    relabelled = flows[0] + flows[1] + flows[2]
    assert pairs_of(record.flow) == relabelled
    for name in NAMES.values():
        if name != "unlabeled":
            change = record.classes[name]
            assert change.gained == sum(n for (_, b), n in relabelled.items() if b == name)
            assert change.lost == sum(n for (a, _), n in relabelled.items() if a == name)
            assert change.new == flows[4]["unlabeled", name] + flows[5]["unlabeled", name]
            assert change.gone == flows[6][name, "unlabeled"] + flows[7][name, "unlabeled"]


# ---------------------------------------------------------------- what is fetched


def test_only_bitmaps_of_labels_that_differ_are_fetched_and_once(
    rounds: Rounds, server: LoopbackSegments, cli: Cli
) -> None:
    record = diffed(cli, *rounds.files())
    asked = Counter(r.path.rpartition("/")[2] for r in server.log.find("GET", "/bitmaps/"))
    both = [f"{uuid(i)}{b}.png" for i in (1, 2, 8) for b in ("", "-b")]
    assert asked == dict.fromkeys([*both, *(f"{uuid(i)}.png" for i in (0, 4, 5, 6, 7))], 1)
    assert not server.log.find("GET", "/images/")
    assert (record.fetched, record.decoded) == (11, 11)
    assert record.bytes_fetched == sum((rounds.folder / "bitmaps" / name).stat().st_size for name in asked)
    again = diffed(cli, *rounds.files())
    assert (again.fetched, again.bytes_fetched) == (0, 0)
    assert replace(again, fetched=11, bytes_fetched=record.bytes_fetched) == record


def test_a_bitmap_that_both_have_is_fetched_by_its_newer_signature(
    rounds: Rounds, server: LoopbackSegments, cli: Cli
) -> None:
    diffed(cli, *rounds.files())
    (request,) = server.log.find("GET", f"{uuid(0)}.png")
    assert request.query == f"X-Amz-Signature={SECRET}"


def test_a_release_differs_in_nothing_from_itself(rounds: Rounds, server: LoopbackSegments, cli: Cli) -> None:
    first, _ = rounds.files()
    rounds.second = copy.deepcopy(rounds.first)
    rounds.second["dataset"]["samples"].reverse()
    record = diffed(cli, *rounds.files())
    assert record.totals == dict.fromkeys(record.totals, 0) | {"unchanged": 10}
    assert (record.samples, record.flow, record.classes, record.statuses) == ({}, {}, {}, {})
    assert not record.categories and not server.log and record.decoded == 0
    assert cli("diff", first, first).stdout.splitlines()[1:] == [
        "samples: 10 -> 10, labelled: 9 -> 9",
        "  10 unchanged",
    ]


def test_releases_beside_one_another_share_their_files(tmp_path: Path, cli: Cli) -> None:
    first = draw_release(tmp_path / "a", samples=3)
    second = shutil.copy(first, first.with_name("release-v2.json"))
    assert diffed(cli, first, second).totals["unchanged"] == 3


def test_relative_urls_of_two_folders_are_two_bitmaps(tmp_path: Path, cli: Cli) -> None:
    """One name in two folders says nothing; the pixels do."""
    releases = [draw_release(tmp_path / name, samples=3) for name in "ab"]
    changed = tmp_path / "b/bitmaps" / f"{uuid(1)}.png"
    instances = decode_instance_bitmap(changed.read_bytes())
    changed.write_bytes(encode_instance_bitmap(np.roll(instances, 9, axis=0)))
    folders = [labelsync.pull(r, out=tmp_path / f"pulled-{r.parent.name}").path for r in releases]
    for sources, redrawn in ((releases, 2), (folders, 0)):  # a folder's digests tell that two bitmaps are equal
        record = diffed(cli, *sources)
        assert record.totals == dict.fromkeys(record.totals, 0) | {
            "relabelled": 1, "redrawn": redrawn, "unchanged": 2 - redrawn,
        }  # fmt: skip
        assert record.samples[uuid(1)].pixels > 0


# ---------------------------------------------------------------- what cannot be compared


def test_an_unreadable_bitmap_ends_it_and_names_the_sample(rounds: Rounds, cli: Cli) -> None:
    (rounds.folder / "bitmaps" / f"{uuid(2)}-b.png").unlink()
    done = cli("diff", *rounds.files(), code=1)
    assert "'frame_0002.jpg' cannot be compared: new release: bitmap http" in done.stderr
    assert "403 Forbidden" in done.stderr and "--allow-failed 1" in done.stderr
    assert SECRET not in done.output and done.stdout == ""


def test_an_allowed_failure_is_listed_and_counts_nowhere(rounds: Rounds, cli: Cli) -> None:
    whole = diffed(cli, *rounds.files())
    attributes(rounds.later[uuid(2)])["annotations"].pop()
    record = diffed(cli, *rounds.files(), "--allow-failed", 1)
    failed = record.samples[uuid(2)]
    assert (
        failed.change == "failed" and "has no annotation" in failed.reason and failed.reason.startswith("new release: ")
    )
    assert record.totals == whole.totals | {"failed": 1, "relabelled": 2}
    gone = pairs_of(whole.samples[uuid(2)].flow)
    assert pairs_of(record.flow) == dict(Counter(pairs_of(whole.flow)) - Counter(gone))
    assert "'frame_0002.jpg' failed: new release: " in cli("diff", *rounds.files(), "--allow-failed", 1).stdout


def test_a_bitmap_that_nobody_changed_may_be_gone(rounds: Rounds, cli: Cli) -> None:
    for i in (3, 9, 10):
        (rounds.folder / "bitmaps" / f"{uuid(i)}.png").unlink()
    assert diffed(cli, *rounds.files()).totals["failed"] == 0


def test_a_bitmap_of_another_size_is_not_compared(rounds: Rounds, cli: Cli) -> None:
    entry = rounds.later[uuid(10)]
    rounds.redraw(entry, rounds.bitmap(entry)[:-2])
    done = cli("diff", *rounds.files(), code=1)
    assert "its bitmap was 48x64 and is 46x64 pixels" in done.stderr


def test_an_entry_that_cannot_be_used_is_not_passed_over(rounds: Rounds, cli: Cli) -> None:
    del label(rounds.later[uuid(10)])["label_status"]
    done = cli("diff", *rounds.files(), code=1)
    assert "'frame_0010.jpg' cannot be compared: new release: its label has no label_status" in done.stderr


def test_a_file_changed_after_the_pull_is_refused(rounds: Rounds, cli: Cli) -> None:
    old, new = (labelsync.pull(f, out=rounds.folder / f.stem).path for f in rounds.files())
    path = Path(new) / "bitmaps" / f"{uuid(1)}.png"
    path.unlink()
    path.write_bytes(encode_instance_bitmap(np.zeros((48, 64), np.uint32)))
    assert "its bitmap was changed after the pull" in cli("diff", old, new, code=1).stderr


def test_what_a_pull_lost_is_lost_here_if_its_label_differs(rounds: Rounds, cli: Cli) -> None:
    for name in (f"{uuid(1)}.png", f"{uuid(9)}.png"):
        (rounds.folder / "bitmaps" / name).unlink()
    files = rounds.files()
    old = labelsync.pull(files[0], out=rounds.folder / "lossy", allow_failed=2).path
    done = cli("diff", old, files[1], code=1)
    assert "'frame_0001.jpg' cannot be compared: old release: it was not pulled (bitmap http" in done.stderr
    assert "more of" not in done.stderr  # 9 is the same in both, whatever became of it


def test_a_folder_of_another_stage_is_refused(rounds: Rounds, cli: Cli) -> None:
    first, _ = rounds.files()
    data = rounds.folder / "data"
    labelsync.convert(labelsync.pull(first, out=rounds.folder / "pulled").path, out=data)
    assert "was made by labelsync convert, not pull" in cli("diff", first, data, code=1).stderr


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"allow_failed": -1}, {"wait": float("nan")}, {"status": ("DONE",)}])
def test_a_value_out_of_range_is_an_option_error(rounds: Rounds, wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        labelsync.diff(*rounds.files(), **wrong)


# ---------------------------------------------------------------- categories, statuses, text


def test_a_renumbering_moves_no_pixel_if_the_annotations_were_renumbered_too(
    rounds: Rounds, server: LoopbackSegments, cli: Cli
) -> None:
    rounds.second = copy.deepcopy(rounds.first)
    for entry in rounds.second["dataset"]["samples"]:
        for a in attributes(entry)["annotations"] if entry["labels"]["ground-truth"] else ():
            a["category_id"] += 10
    for category in rounds.second["dataset"]["task_attributes"]["categories"]:
        category["id"] += 10
    record = diffed(cli, *rounds.files())
    assert record.categories.renumbered == (("class-1", 1, 11), ("class-2", 2, 12), ("class-3", 3, 13))
    assert record.totals["unchanged"] == 10 and not server.log


def test_categories_that_came_and_went_are_told(rounds: Rounds, cli: Cli) -> None:
    categories = rounds.second["dataset"]["task_attributes"]["categories"]
    categories.append(dict(categories[0], id=9, name="bus"))
    attributes(rounds.later[uuid(10)])["annotations"][0]["category_id"] = 9
    record = diffed(cli, *rounds.files())
    assert record.categories.added == ("bus",)
    assert record.classes["bus"].gained == record.samples[uuid(10)].pixels > 0
    back = diffed(cli, *reversed(rounds.files()))
    assert back.categories.removed == ("bus",)
    assert pairs_of(back.flow) == {
        (b.replace("lawn", "class-2"), a.replace("lawn", "class-2")): n for (a, b), n in pairs_of(record.flow).items()
    }


def test_labels_of_other_statuses_count_when_asked_for(rounds: Rounds, cli: Cli) -> None:
    record = diffed(cli, *rounds.files(), "--status", "LABELED,REVIEWED,SKIPPED")
    assert record.samples[uuid(7)].change == "status"
    assert record.totals["unlabelled"] == 0


def test_the_text_says_it_in_short(rounds: Rounds, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    record = diffed(cli, *rounds.files())
    monkeypatch.setattr("labelsync.cli.diff._ROWS", 2)
    head, categories, classes, flow, samples = cli("diff", *rounds.files()).stdout.rstrip("\n").split("\n\n")
    assert head.splitlines()[:3] == [
        "acme/sidewalk v1.0 -> acme/sidewalk v2.0",
        "samples: 10 -> 10, labelled: 9 -> 9",
        "  1 added, 1 removed, 1 labelled, 1 unlabelled, 3 relabelled, 1 redrawn, 1 status only, 2 unchanged",
    ]
    assert categories == "categories:\n  class-2 renamed lawn"
    assert classes.splitlines()[0].split() == [
        "pixels",
        "gained",
        "lost",
        "in",
        "new",
        "labels",
        "in",
        "labels",
        "gone",
    ]
    lawn = record.classes["lawn"]
    expected = [f"{n:,}" for n in (lawn.gained, lawn.lost, lawn.new, lawn.gone)]
    assert [line.split()[1:] for line in classes.splitlines() if line.startswith("lawn ")] == [expected]
    (a, b), n = max(pairs_of(record.flow).items(), key=lambda pair: pair[1])
    assert flow.splitlines()[1].startswith(f"{a} -> {b} ") and f"{n:,}" in flow.splitlines()[1]
    assert flow.splitlines()[-1] == f"and {len(pairs_of(record.flow)) - 2} more (--json lists all)"
    most = max((s for s in record.samples.values() if s.change == "relabelled"), key=lambda s: s.pixels)
    assert samples.splitlines()[1].startswith(f"{most.name} ") and f"{most.pixels:,}" in samples.splitlines()[1]
    assert samples.splitlines()[-1] == "and 1 more (--json lists all)"


def test_two_datasets_that_share_no_sample_are_called_so(tmp_path: Path, cli: Cli) -> None:
    files = [draw_release(tmp_path / str(seed), samples=2, seed=seed) for seed in (0, 1)]
    assert "no sample is in both" in cli("diff", *files).stdout


def test_a_bitmap_is_decoded_once_where_only_categories_changed(
    rounds: Rounds, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds.second = copy.deepcopy(rounds.first)
    for entry in rounds.second["dataset"]["samples"]:
        if entry["uuid"] == uuid(0):
            attributes(entry)["annotations"][0]["category_id"] = 60000
    calls = []
    monkeypatch.setattr(verb, "decode_instance_bitmap", lambda data: calls.append(1) or decode_instance_bitmap(data))
    assert (
        "new release: annotation 1 has category 60000, which the taxonomy does not have"
        in cli("diff", *rounds.files(), code=1).stderr
    )
    assert len(calls) == 1


def test_another_labelset_is_compared_when_asked_for(rounds: Rounds, cli: Cli) -> None:
    """And a folder has the one that it was pulled with."""
    rounds.second = copy.deepcopy(rounds.first)
    rounds.first["dataset"]["labelsets"].append({"name": "second"})
    later = {e["uuid"]: e for e in rounds.second["dataset"]["samples"]}
    for uuid_, entry in later.items():
        entry["labels"]["second"] = rounds.entries[uuid_]["labels"]["second"] = None
    later[uuid(10)]["labels"]["second"] = copy.deepcopy(label(later[uuid(10)]))
    old, new = rounds.files()
    assert diffed(cli, old, new).totals["unchanged"] == 10
    record = diffed(cli, old, new, "--labelset", "second")
    assert {u: s.change for u, s in record.samples.items()} == {uuid(10): "labelled"}
    folder = labelsync.pull(new, out=rounds.folder / "second", labelset="second").path
    assert diffed(cli, old, folder, "--labelset", "second").samples == record.samples
