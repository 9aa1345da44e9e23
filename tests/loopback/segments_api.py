"""The HTTP face of a loopback Segments.ai: every call the SDK makes on datasets, samples, labels and releases.

Every request needs the key, as `Authorization: APIKey <key>`. There are no collaborators, work units or clones (404).
"""

import gzip
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request

from tests.loopback.segments_state import (
    GROUND_TRUTH,
    Platform,
    Refusal,
    dataset_json,
    now,
    release_json,
    sample_json,
    signed_attributes,
)
from tests.loopback.segments_storage import FORM

_DATASET = "/datasets/<owner>/<name>"
_SETTINGS = ("task_type", "task_attributes", "description", "category", "metadata", "public")


def api_app(platform: Platform, *, keys: set[str], storage_url: Callable[[], str]) -> Flask:
    """The API. `storage_url` gives the root that asset and release URLs start with."""
    app = _app(platform)

    @app.before_request
    def _authorize() -> None:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        if not key:
            raise Refusal(401, "Authentication credentials were not provided.")
        if kind != "APIKey" or key not in keys:
            raise Refusal(401, "Invalid API key")

    @app.get("/api_status/")
    def _status() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/user")
    def _user() -> Response:
        return jsonify({"username": platform.user, "created_at": now(), "is_organization": False})

    _add_datasets(app, platform)
    _add_samples(app, platform)
    _add_labels(app, platform)
    _add_issues(app, platform)
    _add_releases(app, platform, storage_url)

    @app.post("/assets/")
    def _new_asset() -> tuple[Response, int]:
        filename, key = _body()["filename"], f"assets/{uuid.uuid4()}{Path(_body()['filename']).suffix}"
        fields = dict.fromkeys(FORM, "x") | {"key": key}
        platform.upload_keys.add(key)
        return jsonify(
            {
                "uuid": str(uuid.uuid4()),
                "filename": filename,
                "url": f"{storage_url()}/{key}",
                "created_at": now(),
                "presignedPostFields": {"url": f"{storage_url()}/", "fields": fields},
            }
        ), 201

    return app


# -------------------------------------------------------------------- routes


def _add_datasets(app: Flask, platform: Platform) -> None:
    @app.get("/user/datasets/")
    @app.get("/users/<user>/datasets/")
    def _datasets(user: str = "") -> Response:
        return jsonify(_page([dataset_json(d) for d in platform.datasets.values() if user in ("", d.owner)]))

    @app.post("/user/datasets/")
    @app.post("/organizations/<owner>/datasets/")
    def _create(owner: str = "") -> tuple[Response, int]:
        body = _body()
        given = {k: body[k] for k in _SETTINGS if body.get(k) is not None}
        if owner == platform.user:  # a user is no organization
            raise Refusal(404, "Not found.")
        return jsonify(dataset_json(platform.create_over_api(owner or platform.user, body["name"], **given))), 201

    @app.route(f"{_DATASET}/", methods=["GET", "PATCH", "DELETE"])
    def _dataset(owner: str, name: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        if request.method == "DELETE":
            del platform.datasets[dataset.full_name]
            return "", 204
        if request.method == "PATCH":
            for key in _SETTINGS:
                setattr(dataset, key, _body().get(key, getattr(dataset, key)))
        return jsonify(dataset_json(dataset))

    @app.route(f"{_DATASET}/labelsets/", methods=["GET", "POST"])
    def _labelsets(owner: str, name: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        if request.method == "POST":
            body = _body()
            if body["name"] in dataset.labelsets:
                raise Refusal(400, "A labelset with this name already exists.")
            dataset.labelsets[body["name"]] = body.get("description", "")
            return jsonify(_labelset(body["name"], body.get("description", ""))), 201
        return jsonify([_labelset(n, d) for n, d in dataset.labelsets.items()])

    @app.route(f"{_DATASET}/labelsets/<labelset>/", methods=["GET", "DELETE"])
    def _one_labelset(owner: str, name: str, labelset: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        if labelset not in dataset.labelsets:
            raise Refusal(404, "Not found.")
        if request.method == "DELETE":
            del dataset.labelsets[labelset]
            return "", 204
        return jsonify(_labelset(labelset, dataset.labelsets[labelset]))


def _add_samples(app: Flask, platform: Platform) -> None:
    @app.get(f"{_DATASET}/samples/")
    def _samples(owner: str, name: str) -> Response:
        dataset, args = platform.dataset(f"{owner}/{name}"), request.args
        labelset = args.get("labelset", "")
        statuses = [s for s in args.get("label_status", "").split(",") if s]

        def status(s: Any) -> str:
            return str(s.labels.get(labelset or GROUND_TRUTH, {}).get("label_status", "UNLABELED"))

        found = [
            s
            for s in dataset.samples.values()
            if args.get("name__contains", "") in s.name and (not statuses or status(s) in statuses)
        ]
        order = args.get("sort", "name")
        if order.lstrip("-") in ("name", "created_at", "priority"):
            found.sort(key=lambda s: getattr(s, order.lstrip("-")), reverse=order.startswith("-"))
        full = args.get("include_full_label") == "1"
        return jsonify(_page([sample_json(dataset, s, labelset=labelset, full=full) for s in found]))

    @app.post(f"{_DATASET}/samples/")
    def _add(owner: str, name: str) -> tuple[Response, int]:
        dataset = platform.dataset(f"{owner}/{name}")
        return jsonify(sample_json(dataset, platform.add_sample(dataset, _body()))), 201

    @app.route(f"{_DATASET}/samples_bulk/", methods=["POST", "DELETE"])
    def _bulk(owner: str, name: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        if request.method == "DELETE":
            gone = [dataset.samples.pop(key, None) for key in _body()["uuids"]]
            return jsonify({"deleted_count": sum(s is not None for s in gone)})
        known = {s.name: s for s in dataset.samples.values()}
        every = [known.get(given["name"]) or platform.add_sample(dataset, given) for given in _body()]
        return jsonify([sample_json(dataset, s) for s in every]), 201

    @app.route("/samples/<key>/", methods=["GET", "PATCH", "DELETE"])
    def _sample(key: str) -> Any:
        dataset, sample = platform.sample(key)
        if request.method == "DELETE":
            del dataset.samples[key]
            return "", 204
        if request.method == "PATCH":
            for k, value in _body().items():
                setattr(sample, k, value)
        answer = sample_json(dataset, sample, labelset=request.args.get("labelset", ""), full=True)
        if request.args.get("include_signed_urls") == "1":
            answer["attributes"] = signed_attributes(answer["attributes"], platform.sign)
        return jsonify(answer)


def _add_labels(app: Flask, platform: Platform) -> None:
    @app.route("/labels/<key>/<labelset>/", methods=["GET", "PUT", "PATCH", "DELETE"])
    def _label(key: str, labelset: str) -> Any:
        _, sample = platform.sample(key)
        if request.method == "PUT":
            return jsonify(platform.put_label(key, labelset, _body()))
        if labelset not in sample.labels:
            raise Refusal(404, "Not found.")
        if request.method == "DELETE":
            del sample.labels[labelset]
            return "", 204
        if request.method == "PATCH":
            sample.labels[labelset] |= _body() | {"updated_at": now(), "updated_by": platform.user}
        return jsonify(sample.labels[labelset])


def _add_issues(app: Flask, platform: Platform) -> None:
    @app.get(f"{_DATASET}/issues/")
    def _issues(owner: str, name: str) -> Response:
        return jsonify(list(platform.dataset(f"{owner}/{name}").issues.values()))

    @app.post("/samples/<key>/issues/")
    def _add_issue(key: str) -> tuple[Response, int]:
        dataset, sample = platform.sample(key)
        by = {"created_by": dataset.owner, "updated_by": dataset.owner, "created_at": now(), "updated_at": now()}
        about = {"uuid": str(uuid.uuid4()), "comments": [], "sample_uuid": key, "sample_name": sample.name}
        issue = {"status": "OPEN"} | _body() | by | about
        dataset.issues[issue["uuid"]] = issue
        return jsonify(issue), 201

    @app.route("/issues/<key>/", methods=["PATCH", "DELETE"])
    def _issue(key: str) -> Any:
        for dataset in platform.datasets.values():
            if key in dataset.issues:
                if request.method == "DELETE":
                    del dataset.issues[key]
                    return "", 204
                dataset.issues[key] |= _body()
                return jsonify(dataset.issues[key])
        raise Refusal(404, "Not found.")


def _add_releases(app: Flask, platform: Platform, storage_url: Callable[[], str]) -> None:
    def answer(release: Any) -> dict[str, Any]:
        return release_json(release, f"{storage_url()}/releases/{release.uuid}.json")

    @app.route(f"{_DATASET}/releases/", methods=["GET", "POST"])
    def _releases(owner: str, name: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        if request.method == "POST":
            return jsonify(answer(platform.snapshot(dataset, _body()["name"], _body().get("description", "")))), 201
        return jsonify([answer(r) for r in dataset.releases.values()])

    @app.route(f"{_DATASET}/releases/<release>/", methods=["GET", "DELETE"])
    def _release(owner: str, name: str, release: str) -> Any:
        dataset = platform.dataset(f"{owner}/{name}")
        found = dataset.release(release.replace("%2F", "/"))  # the listener keeps a quoted slash quoted
        if request.method == "DELETE":
            del dataset.releases[found.name]
            return "", 204
        reply = jsonify(answer(found))
        found.polls -= 1
        return reply


# -------------------------------------------------------------------- what all routes share


def _app(platform: Platform) -> Flask:
    app = Flask(__name__)

    @app.errorhandler(Refusal)
    def _refused(e: Refusal) -> tuple[Response, int]:
        return jsonify({"detail": e.detail} if isinstance(e.detail, str) else e.detail), e.status

    @app.before_request
    def _lock() -> None:
        platform.lock.acquire()
        for act in list(platform.before):
            act(request.method, request.path)

    @app.teardown_request
    def _unlock(_: BaseException | None) -> None:
        platform.lock.release()

    return app


def _body() -> Any:
    """The JSON of a request; the SDK sends some of them gzipped."""
    data = request.get_data()
    return json.loads(gzip.decompress(data) if request.headers.get("Content-Encoding") == "gzip" else data)


def _page(items: list[Any]) -> list[Any]:
    size, page = int(request.args.get("per_page", 1000)), int(request.args.get("page", 1))
    if page > 1 and (page - 1) * size >= len(items):
        raise Refusal(404, "Invalid page.")
    return items[(page - 1) * size : page * size]


def _labelset(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "is_groundtruth": name == GROUND_TRUTH, "created_at": now()}
