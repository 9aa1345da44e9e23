"""Images in a customer's private bucket: signed URLs by the real SDK, one per image, seen by nobody."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelsync.release.folder import open_release
from tests.loopback.segments import LoopbackSegments
from tests.pull.conftest import Cli, last
from tests.tasks import Drawn, draw_multisensor, draw_sequences

PRIVATE = {"private": True}


def asked(server: LoopbackSegments) -> list[Any]:
    """Calls for signed URLs."""
    return [r for r in server.log.find(server="api", path="/samples/") if r.query == "include_signed_urls=1"]


def test_private_images_come_by_one_signed_url_each(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, tmp_path: Path
) -> None:
    record = json.loads(run(platform(samples=6, unlabeled=(1,), add=PRIVATE), "--json").stdout)
    assert (record["outcomes"]["pulled"], record["fetched"]) == (5, 10)
    assert len(asked(server)) == 5
    assert len({r.path for r in asked(server)}) == 5
    folder = open_release("sidewalk-v1.0")
    for sample in folder.release.samples:
        image = folder.image(sample)
        if image is not None:
            assert image.read_bytes() == (tmp_path / "drawn/v1.0/images" / sample.name).read_bytes()


def test_the_key_never_reaches_the_bucket_and_no_signature_is_left_anywhere(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, cache: Path
) -> None:
    result = run(platform(add=PRIVATE))
    assert len(asked(server)) == 4
    assert not any(r.authorized for r in server.log.find(server="storage"))
    written = [p.read_bytes() for root in (cache, Path("sidewalk-v1.0")) for p in root.rglob("*") if p.is_file()]
    texts = [*written, result.output.encode()]
    assert len(server.bucket.signatures) == 4
    assert not [s for s in server.bucket.signatures if any(s.encode() in text for text in texts)]


@pytest.mark.parametrize(("draw", "images"), [(draw_sequences, 12), (draw_multisensor, 8)])
def test_the_frames_of_a_private_sequence_come_by_one_answer(
    run: Cli, server: LoopbackSegments, tmp_path: Path, draw: Callable[[Path], Drawn], images: int
) -> None:
    drawn = draw(tmp_path / "drawn")
    record = json.loads(run(server.add_round(drawn.path, private=True), "--json").stdout)
    assert record["outcomes"]["failed"] == 0
    assert len({r.path for r in asked(server)}) == len(asked(server)) == 4
    folder = open_release(record["path"])
    pulled = {s.uuid: folder.image(s) for s in folder.release.samples if folder.image(s)}
    assert len(pulled) >= images
    assert all(path.read_bytes() == drawn.images[uuid].read_bytes() for uuid, path in pulled.items() if path)


def test_a_second_pull_asks_for_no_signature(run: Cli, platform: Callable[..., str], server: LoopbackSegments) -> None:
    name = platform(add=PRIVATE)
    run(name)
    server.log.clear()
    record = json.loads(run(name, "--out", "again", "--json").stdout)
    assert (record["fetched"], record["reused"], asked(server)) == (0, 8, [])


def test_a_release_file_in_the_same_place_cannot_ask(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    platform(add=PRIVATE)
    Path("r.json").write_bytes(server.platform.dataset("acme/sidewalk").release("v1.0").data)
    assert "403 Forbidden" in last(run("r.json", code=1))
    assert asked(server) == []


def test_limits_of_the_api_are_waited_for(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    server.faults.status(429, path="/samples/", server="api", headers={"Retry-After": "7"}, times=2)
    run(platform(add=PRIVATE))
    assert slept.count(7) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"code": 403}, "and no signed URL: {api} refuses the key"),
        ({"code": 404}, "and no signed URL: {api} is no Segments.ai server (404 Not Found)"),
        ({"code": 500}, "and no signed URL: {api} answers 500"),
    ],
)
def test_a_platform_that_signs_nothing_is_a_reason(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, fault: dict[str, Any], reason: str
) -> None:
    server.faults.status(path="/samples/", server="api", times=None, **fault)
    line = last(run(platform(add=PRIVATE), code=1))
    assert "images/frame_0000.jpg: 403 Forbidden" in line
    assert reason.format(api=server.url) in line


def test_an_image_that_was_replaced_after_the_release_is_not_taken_for_it(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    name = platform(add=PRIVATE)
    samples = list(server.platform.dataset("acme/sidewalk").samples.values())
    samples[0].attributes["image"]["url"] = samples[1].attributes["image"]["url"]
    assert "frame_0000.jpg: 403 Forbidden" in last(run(name, code=1))
    assert "and no signed URL: its sample has none" in last(run(name, code=1))


def test_a_signature_that_does_not_open_the_image_is_a_reason_without_it(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments
) -> None:
    name = platform(add=PRIVATE)
    server.platform.sign = lambda url: f"{url}?X-Amz-Signature=5ecret"
    result = run(name, code=1)
    assert "images/frame_0000.jpg: by its signed URL: 403 Forbidden" in last(result)
    assert "5ecret" not in result.output


@pytest.mark.parametrize("signed", ["file:///etc/hostname", "s3://bucket/x", "x"])
def test_a_signed_url_of_another_scheme_is_not_followed(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, signed: str
) -> None:
    name = platform(add=PRIVATE)
    server.platform.sign = lambda url: signed
    assert "and no signed URL: its sample has none" in last(run(name, code=1))


def test_an_image_on_s3_without_a_login_is_signed_for(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, tmp_path: Path
) -> None:
    def change(samples: list[Any]) -> None:
        for sample in samples:
            sample["attributes"]["image"]["url"] = f"s3://walks/{sample['name']}"

    name = platform(change)
    root = server.mount(tmp_path / "drawn/v1.0/images")
    server.platform.sign = lambda url: url.replace("s3://walks/", root) if url.startswith("s3:") else None
    none = str(tmp_path / "none")
    run(
        name,
        env={
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": none,
            "AWS_SHARED_CREDENTIALS_FILE": none,
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        },
    )
    assert len(asked(server)) == 4
    folder = open_release("sidewalk-v1.0")
    assert [r.outcome for r in folder.ledger.rows] == ["pulled"] * 4
