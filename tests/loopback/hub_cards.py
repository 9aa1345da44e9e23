"""The rules of the Hub for a README's YAML head that a publisher can break. Not all of them: those seen in the wild."""

from typing import Any

import yaml

LICENSES = (
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 "
    "cc-by-nc-nd-4.0 cc-by-nd-4.0 gpl-2.0 gpl-3.0 lgpl-3.0 agpl-3.0 mpl-2.0 odbl odc-by pddl openrail unknown other"
)
SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"
TASKS = "image-segmentation image-classification object-detection mask-generation depth-estimation image-to-image other"


def check(text: str, kind: str) -> tuple[list[str], list[str]]:
    """(errors, warnings) of a README for a "dataset" or "model" repo; the client refuses to commit with errors."""
    head = front_matter(text)
    if head is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(head)
    except yaml.YAMLError as e:
        return [f"bad YAML: {' '.join(str(e).split())}"], []
    if not isinstance(data, dict):
        return ["the metadata must be a mapping"], []
    return _errors(data, kind), _warnings(data)


def front_matter(text: str) -> str | None:
    """The YAML between the two `---` lines a README begins with."""
    if not text.startswith("---\n") or "\n---" not in text[3:]:
        return None
    return text[4 : text.index("\n---", 3) + 1]


def card_data(text: str) -> dict[str, Any]:
    """The metadata as repo_info answers it."""
    try:
        data = yaml.safe_load(front_matter(text) or "")
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def _errors(data: dict[str, Any], kind: str) -> list[str]:
    texts = ("license", "base_model", "language", "datasets", "tags", "task_categories", "size_categories")
    errors = [
        f'"{name}" must be a string or a list of strings'
        for name in texts
        if not all(isinstance(value, str) and value for value in _listed(data, name))
    ]
    if any(value not in LICENSES.split() for value in _listed(data, "license")):
        errors.append(f'"license" must be one of [{LICENSES.replace(" ", ", ")}]')
    one_text = ("pretty_name", "pipeline_tag", "library_name")
    errors += [f'"{name}" must be a string' for name in one_text if not isinstance(data.get(name, ""), str)]
    configs = _listed(data, "configs")
    errors += [f'"configs[{i}].config_name" is required' for i, c in enumerate(configs) if "config_name" not in c]
    return errors + (_index_errors(_listed(data, "model-index")) if kind == "model" else [])


def _index_errors(models: list[Any]) -> list[str]:
    errors = []
    for i, model in enumerate(models):
        if "name" not in model or not isinstance(model.get("results"), list):
            errors.append(f'"model-index[{i}]" needs "name" and "results"')
            continue
        errors += [
            f'"model-index[{i}].results[{j}].{need}" is required'
            for j, result in enumerate(model["results"])
            for need in ("task", "dataset", "metrics")
            if need not in result
        ]
    return errors


def _warnings(data: dict[str, Any]) -> list[str]:
    known = {"task_categories": TASKS, "pipeline_tag": TASKS, "size_categories": SIZES}
    return [
        f'the {name} "{value}" is not in the official list'
        for name, official in known.items()
        for value in _listed(data, name)
        if value not in official.split()
    ]


def _listed(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name, [])
    return value if isinstance(value, list) else [value]
