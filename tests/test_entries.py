"""Entries of every task type, as the documents of Segments.ai show them: which samples they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import ReleaseFormatError
from labelsync.records.release import Annotation, Label, Sample
from labelsync.release.parse import parse_release
from tests.releases import release_document

Json = dict[str, Any]


def samples(task_type: str, *entries: Any) -> tuple[Sample, ...]:
    document = release_document(list(entries), task_type=task_type)
    return parse_release(json.dumps(document).encode(), where="release.json").samples


def entry(attributes: Any, label: Any, **changes: Any) -> Json:
    whole = {"uuid": "u-1", "name": "seq1", "attributes": attributes, "metadata": {"site": "a"}}
    return whole | {"labels": {"ground-truth": label}} | changes


def labelled(attributes: Any, status: str = "LABELED") -> Json:
    return {"label_status": status, "attributes": attributes}


# -------------------------------------------------------------------- shapes

VECTOR = [
    {"id": 1, "track_id": 1, "category_id": 1, "type": "bbox", "points": [[12.34, 56.78], [90.12, 134.56]]},
    {"id": 2, "category_id": 2, "type": "polygon", "points": [[12.3, 56.7], [90.1, 34.5], [78.9, 23.4]]},
    {"id": 3, "category_id": 3, "type": "polyline", "points": [[1, 2], [3, 4]]},
    {"track_id": 4, "category_id": 3, "type": "point", "points": [[12.3, 56.7]], "attributes": {}},
]
SHAPES = (
    Annotation(1, 1, "bbox", ((12.34, 56.78), (90.12, 134.56))),
    Annotation(2, 2, "polygon", ((12.3, 56.7), (90.1, 34.5), (78.9, 23.4))),
    Annotation(3, 3, "polyline", ((1.0, 2.0), (3.0, 4.0))),
    Annotation(4, 3, "point", ((12.3, 56.7),)),
)
IMAGE = {"image": {"url": "a.jpg"}}


def test_vector_annotations_keep_their_points_in_order():
    attributes = {"format_version": "0.1", "annotations": VECTOR, "image_attributes": {}, "links": [{"from_id": 1}]}
    (sample,) = samples("vector", entry(IMAGE, labelled(attributes)))
    assert sample == Sample("u-1", "seq1", "a.jpg", Label("LABELED", SHAPES), {"site": "a"})
    assert sample.label is not None
    assert (sample.label.shapes, sample.label.lacks_bitmap) == (SHAPES, False)


@pytest.mark.parametrize("task_type", ["bboxes", "bbox"])
def test_boxes_need_not_say_that_they_are(task_type):
    bare = {k: v for k, v in VECTOR[0].items() if k != "type"}
    (sample,) = samples(task_type, entry(IMAGE, labelled({"annotations": [bare]})))
    assert sample.label == Label("LABELED", SHAPES[:1])


def test_bitmap_annotations_stay_without_type_and_points():
    attributes = {"annotations": VECTOR[:1], "segmentation_bitmap": {"url": "b.png"}}
    (sample,) = samples("segmentation-bitmap", entry(IMAGE, labelled(attributes)))
    assert sample.label == Label("LABELED", (Annotation(1, 1),), "b.png")
    (sample,) = samples("segmentation-bitmap", entry(IMAGE, labelled({"annotations": VECTOR[:1]})))
    assert sample.label is not None
    assert sample.label.lacks_bitmap


@pytest.mark.parametrize("attributes", [None, [], {}, {"annotations": None}, {"annotations": []}])
def test_a_vector_label_without_annotations_is_an_empty_label(attributes):
    (sample,) = samples("vector", entry(IMAGE, labelled(attributes)))
    assert (sample.label, sample.problem) == (Label("LABELED"), "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"type": None}, "its annotation 2 has no type"),
        ({"points": None}, "its annotation 2 has no points"),
        ({"points": [[1, 2], [3]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, 2, 3]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, None]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, "2"]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, True]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, float("nan")]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, float("inf")]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [[1, 10**400]]}, "its annotation 2 has a point that is not two numbers"),
        ({"points": [{"x": 1, "y": 2}]}, "its annotation 2 has a point that is not two numbers"),
        ({"category_id": None}, "its annotation 2 has no category_id"),
    ],
)
def test_a_broken_shape_is_a_problem_of_its_sample(change, problem):
    (sample,) = samples("vector", entry(IMAGE, labelled({"annotations": [VECTOR[0], VECTOR[1] | change]})))
    assert (sample.label, sample.problem) == (None, problem)


def test_a_type_that_is_none_of_the_four_keeps_its_name_and_no_points():
    odd = VECTOR[0] | {"type": "skeleton", "points": {"any": "thing"}}
    (sample,) = samples("vector", entry(IMAGE, labelled({"annotations": [odd]})))
    assert sample.label == Label("LABELED", (Annotation(1, 1, "skeleton"),))


# -------------------------------------------------------------------- sequences

FRAMES = {
    "frames": [
        {"image": {"url": "https://x/f1.jpg"}, "name": "frame_00001", "timestamp": "00001"},
        {"image": {"url": "https://x/f2.jpg"}},
    ]
}
TRACK = {"id": 1, "track_id": 1, "category_id": 2, "is_keyframe": True, "attributes": {}}
DRAWN = {"format_version": "0.1", "annotations": [TRACK], "segmentation_bitmap": {"url": "https://x/b1.png"}}
BLANK = {"annotations": [], "segmentation_bitmap": None}
FOUND = Label("LABELED", (Annotation(1, 2),), "https://x/b1.png")
SEQUENCE = "image-segmentation-sequence"


def labels_of(found: tuple[Sample, ...]) -> list[Label | None]:
    return [s.label for s in found]


def test_each_frame_of_a_sequence_is_a_sample_of_its_group():
    label = labelled({"format_version": 0.2, "frames": [DRAWN, BLANK]})
    assert samples(SEQUENCE, entry(FRAMES, label)) == (
        Sample("u-1.00000", "seq1/frame_00001", "https://x/f1.jpg", FOUND, {"site": "a"}, sequence="u-1"),
        Sample("u-1.00001", "seq1/00001", "https://x/f2.jpg", None, {"site": "a"}, sequence="u-1"),
    )


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, [None, None]),
        (labelled(None), [None, None]),
        (labelled([]), [None, None]),
        (labelled({}), [None, None]),
        (labelled({"frames": None}), [None, None]),
        (labelled({"frames": []}), [None, None]),
        (labelled({"frames": [DRAWN]}), [FOUND, None]),  # fewer than the sample
        (labelled({"frames": [None, DRAWN]}), [None, FOUND]),
        (labelled({"frames": [DRAWN | {"segmentation_bitmap": None}]}), [None, None]),
        (labelled({"frames": [DRAWN | {"segmentation_bitmap": {"url": ""}}]}), [None, None]),
        (labelled({"frames": [{}, DRAWN, BLANK, None]}), [None, FOUND]),  # more, and nothing is drawn on them
    ],
)
def test_a_frame_without_bitmap_is_unlabeled(label, expected):
    found = samples(SEQUENCE, entry(FRAMES, label))
    assert labels_of(found) == expected
    assert not any(s.problem for s in found)


def test_a_label_on_a_frame_without_image_is_lost_by_name_not_dropped():
    found = samples(SEQUENCE, entry(FRAMES, labelled({"frames": [DRAWN, BLANK, DRAWN]})))
    assert [s.uuid for s in found] == ["u-1.00000", "u-1.00001", "u-1.00002"]
    assert found[2].problem == "its label has 3 frames, and there are images of 2"
    assert labels_of(found) == [FOUND, None, None]


@pytest.mark.parametrize(
    ("label", "problems"),
    [
        ("x", ["its label is a str, not an object"] * 2),
        ({"attributes": {"frames": [DRAWN]}}, ["its label has no label_status"] * 2),
        (labelled({"frames": {"0": DRAWN}}), ["the frames of its label are not a list"] * 2),
        (labelled({"frames": ["x", DRAWN]}), ["its label is a str, not an object", ""]),
        (
            labelled({"frames": [DRAWN, DRAWN | {"annotations": [{"id": 1}]}]}),
            ["", "its annotation 1 has no category_id"],
        ),
    ],
)
def test_a_broken_frame_is_a_problem_of_its_own(label, problems):
    assert [s.problem for s in samples(SEQUENCE, entry(FRAMES, label))] == problems


@pytest.mark.parametrize("attributes", [None, {}, {"frames": []}, {"frames": "x"}, []])
def test_a_sequence_without_frames_keeps_a_row(attributes):
    (unlabeled,) = samples(SEQUENCE, entry(attributes, None))
    assert unlabeled == Sample("u-1", "seq1", None, None, {"site": "a"})
    (lost,) = samples(SEQUENCE, entry(attributes, labelled({"frames": []})))
    assert (lost.uuid, lost.problem) == ("u-1", "it has a label and no frames of images")


def test_frames_of_two_entries_under_one_uuid_are_a_problem_and_stay_apart():
    found = samples(SEQUENCE, entry(FRAMES, None), entry(FRAMES, None, name="again"))
    assert [bool(s.problem) for s in found] == [False, False, True, True]
    assert len({s.uuid for s in found}) == 4
    assert "its uuid u-1.00000 is that of sample 'seq1/frame_00001' too" in found[2].problem


def test_frames_of_shapes_are_labelled_where_there_is_a_list_of_annotations():
    frames = [{"annotations": VECTOR}, {"annotations": []}, {"timestamp": "3"}]
    attributes = {"frames": [*FRAMES["frames"], {"image": {"url": "f3.jpg"}}]}
    found = samples("image-vector-sequence", entry(attributes, labelled({"frames": frames, "links": []})))
    assert labels_of(found) == [Label("LABELED", SHAPES), Label("LABELED"), None]
    assert {s.sequence for s in found} == {"u-1"}


# -------------------------------------------------------------------- several sensors


def sensor(name: Any, attributes: Any, task_type: str = SEQUENCE) -> Json:
    return {"name": name, "task_type": task_type, "attributes": attributes}


LIDAR = sensor("Lidar", {"frames": [{"pcd": {"url": "a.pcd", "type": "pcd"}}]}, "pointcloud-cuboid-sequence")
CUBOIDS = sensor("Lidar", {"frames": [{"annotations": [{"id": 1, "type": "cuboid"}]}]}, "pointcloud-cuboid-sequence")


def other(url: str) -> Json:
    return {"frames": [DRAWN | {"segmentation_bitmap": {"url": url}}]}


def sensors(*found: Json) -> Json:
    return {"sensors": list(found)}


def test_cameras_are_rows_and_all_of_a_moment_are_one_group():
    attributes = sensors(LIDAR, sensor("Camera 1", FRAMES), sensor("Heck/links", FRAMES))
    label = labelled(sensors(CUBOIDS, sensor("Camera 1", {"frames": [DRAWN]}), sensor("Heck/links", [])))
    found = samples("multisensor-sequence", entry(attributes, label))
    assert [(s.uuid, s.name) for s in found] == [
        ("u-1.camera-1.00000", "seq1/Camera 1/frame_00001"),
        ("u-1.camera-1.00001", "seq1/Camera 1/00001"),
        ("u-1.heck-links.00000", "seq1/Heck/links/frame_00001"),
        ("u-1.heck-links.00001", "seq1/Heck/links/00001"),
    ]
    assert labels_of(found) == [FOUND, None, None, None]  # [] is a sensor that nobody labelled
    assert {s.sequence for s in found} == {"u-1"}


@pytest.mark.parametrize(
    ("names", "label_names", "urls"),
    [
        (("a", "b"), ("a", "b"), ("1", "2")),
        (("a", "b"), ("b", "a"), ("2", "1")),  # by name
        (("a", "b"), (None, None), ("1", "2")),  # by place
        ((None, None), ("x", "y"), ("1", "2")),
        (("a", "b"), ("a", None), ("1", "2")),
        (("a", "b"), ("b", None), (None, "1")),  # the first one's place is taken by the second's name
        (("a", "b"), ("b",), (None, "1")),
        (("a", "a"), ("a", "a"), ("1", "2")),
        (("a", "b"), (), (None, None)),
    ],
)
def test_sensors_are_matched_by_name_and_else_by_place(names, label_names, urls):
    attributes = sensors(*(sensor(n, {"frames": FRAMES["frames"][:1]}) for n in names))
    label = labelled(sensors(*(sensor(n, other(str(i))) for i, n in enumerate(label_names, 1))))
    found = samples("multisensor-sequence", entry(attributes, label))
    assert tuple(s.label and s.label.bitmap_url for s in found) == urls
    assert len({s.uuid for s in found}) == 2


def test_names_that_only_differ_in_what_a_uuid_leaves_out_stay_apart():
    attributes = sensors(
        *(sensor(n, {"frames": FRAMES["frames"][:1]}) for n in ("Cam 1", "cam-1", "!", "カメラ", "cam-1-2"))
    )
    found = samples("multisensor-sequence", entry(attributes, None))
    assert not any(s.problem for s in found)
    assert [s.uuid for s in found] == [
        "u-1.cam-1.00000",
        "u-1.cam-1-2.00000",
        "u-1.sensor-3.00000",
        "u-1.sensor-4.00000",
        "u-1.cam-1-2-5.00000",
    ]


def test_a_release_whose_sensors_are_no_cameras_is_refused_by_what_they_are():
    message = (
        "release.json is a multisensor release without image-segmentation-sequence sensors: "
        "its sensors are pointcloud-cuboid-sequence; labelsync converts segmentation-bitmap, "
    )
    with pytest.raises(ReleaseFormatError, match=message):
        samples("multisensor-sequence", entry(sensors(LIDAR), labelled(sensors(CUBOIDS))))
    with pytest.raises(ReleaseFormatError, match="it names no sensors"):
        samples("multisensor-sequence", entry(None, None))


def test_an_entry_without_cameras_beside_others_keeps_its_row():
    attributes = sensors(sensor("Camera 1", FRAMES))
    found = samples("multisensor-sequence", entry(sensors(LIDAR), None, uuid="u-0"), entry(attributes, None))
    assert [s.uuid for s in found] == ["u-0", "u-1.camera-1.00000", "u-1.camera-1.00001"]


# -------------------------------------------------------------------- whatever it is

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["frames", "sensors", "image", "url", "name", "task_type", "annotations", "points", "attributes"]
            ),
            inner | st.just(SEQUENCE),
            max_size=3,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("task_type", ["vector", "bboxes", "image-vector-sequence", SEQUENCE, "multisensor-sequence"])
@given(attributes=_JSON, label=_JSON | st.builds(labelled, _JSON), uuid=st.sampled_from(["u", "u.00000", "", None]))
def test_whatever_an_entry_is_it_is_samples_with_uuids_of_their_own(task_type, attributes, label, uuid):
    camera = entry(sensors(sensor("c", FRAMES)), None, uuid="camera")  # so that a multisensor release is one
    found = samples(task_type, entry(attributes, label, uuid=uuid), camera, entry(FRAMES, label))
    assert len({s.uuid for s in found}) == len(found)
    assert {s.uuid.split(".")[0].split("#")[0] for s in found} >= {"u-1", "camera"}
    assert len(found) >= 3
