"""A README that two write: labelsync its marked section and its metadata keys, people everything else."""

import json
import re

BEGIN = "<!-- labelsync: begin (this section is replaced by every push; text outside it stays) -->"
END = "<!-- labelsync: end -->"

# the last begin before an end: a begin that lost its end, or the other way round, is somebody's text
_SECTION = re.compile(r"<!-- labelsync: begin(?:(?!<!-- labelsync: begin).)*?<!-- labelsync: end -->", re.DOTALL)
_HEAD = re.compile(r"\A---\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"^(?:([^\s#'\"\-][^:\n]*)|['\"]([^'\"\n]+)['\"]):(?=\s|$)", re.MULTILINE)
# what our cards have in place of a repo's id, in examples of code, and the line that says so
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r"(?<=[\s\"])(?:user/name|path/or/hub-id)(?=[\s\"@])")
_EXPLAINED = re.compile(r"^With the id of this repository [^\n]*\n\n", re.MULTILINE)
_UNITED = ("tags", "language")  # lists that people add to


def marked(text: str) -> str:
    """A generated README with its body marked as labelsync's, if it is not marked yet."""
    head, body = _split(text)
    return text if _SECTION.search(body) else _joined(head, f"{BEGIN}\n{body.strip()}\n{END}\n")


def merged(theirs: str | None, ours: str) -> str:
    """The README to publish: `ours` is what labelsync generated, `theirs` what the repo holds now (None = nothing).

    Their text outside the section stays, and so do their metadata keys that we do not write; `tags` and `language` are
    united. A README without a section keeps all its text, and ours follows it. Merging twice changes nothing more.
    """
    ours = marked(ours)
    if theirs is None or not theirs.strip():
        return ours
    our_head, our_body = _split(ours)
    their_head, their_body = _split(theirs)
    section = _SECTION.search(our_body)
    assert section is not None  # noqa: S101 - `marked` has just put it there
    if _SECTION.search(their_body):
        body = _SECTION.sub(lambda _: section.group(), their_body, count=1)
    else:
        body = "\n\n".join(part for part in (their_body.strip(), section.group()) if part) + "\n"
    return _joined(_merged_head(their_head, our_head), body)


def addressed(text: str, repo_id: str) -> str:
    """A generated README whose examples name the repo that they stand in."""
    return _FENCED.sub(lambda m: _PLACE.sub(lambda _: repo_id, m.group()), _EXPLAINED.sub("", text))


def with_metadata(text: str, yaml: str) -> str:
    """A README whose metadata has the keys of `yaml`, whatever it said of them before."""
    head, body = _split(text)
    return _joined(_merged_head(head, yaml), body)


def with_license(text: str, license: str) -> str:
    """A README whose metadata says `license`, whatever it said before."""
    quoted = license if re.fullmatch(r"[a-z][\w.-]*", license) else json.dumps(license)
    return with_metadata(text, f"license: {quoted}\n")


def _split(text: str) -> tuple[str, str]:
    """(YAML between the two `---` lines or "", the rest)."""
    head = _HEAD.match(text)
    return (head.group(1), text[head.end() :]) if head else ("", text)


def _joined(head: str, body: str) -> str:
    if head:
        return f"---\n{head}---\n{body}"
    return f"\n{body}" if body.startswith("---") else body  # a rule as the first line would open a head


def _merged_head(theirs: str, ours: str) -> str:
    """Their top-level blocks in their order, ours in place of those that we write, our new ones at the end."""
    blocks, new = _blocks(theirs), _blocks(ours)
    for key, text in new.items():
        if key:
            blocks[key] = _united(blocks[key], text) if key in _UNITED and key in blocks else text
    return "".join(blocks.values())


def _blocks(head: str) -> dict[str, str]:
    """Top-level key -> its lines, comments below it included; "" -> what stands above the first key.

    By lines and not by a YAML parser, which would lose people's comments and quotes.
    """
    keys = list(_KEY.finditer(head))
    starts = [m.start() for m in keys] + [len(head)]
    blocks = {"": head[: starts[0]]}
    for m, start, end in zip(keys, starts, starts[1:], strict=False):
        blocks[(m.group(1) or m.group(2)).strip()] = head[start:end]
    return blocks


def _united(theirs: str, ours: str) -> str:
    """Two lists of words under one key as one list, theirs first and as it is; ours alone where one is no such list."""
    their_items, our_items = _items(theirs), _items(ours)
    if their_items is None or our_items is None:
        return ours
    missing = [item for item in our_items if item not in their_items]
    if not missing:
        return theirs
    written = re.search(r"^( *)- ", theirs, re.MULTILINE)
    indent = written.group(1) if written else ""
    kept = theirs if written else theirs.partition(":")[0] + ":\n" + "".join(f"- {item}\n" for item in their_items)
    return kept + "".join(f"{indent}- {item}\n" for item in missing)


def _items(block: str) -> list[str] | None:
    """The items of `key: [a, b]`, of `key: a` and of `key:` with lines `- a`; None for anything else."""
    first, *lines = block.partition(":")[2].rstrip("\n").split("\n")
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if first.strip():
        one = re.fullmatch(r"\s*(?:\[([^\[\]{}#]*)\]|([^\s\[\]{}#&*!|>][^\[\]{}#]*))\s*(?:#.*)?", first)
        if one is None or lines:
            return None
        return [w.strip() for w in one.group(1).split(",")] if one.group(1) is not None else [one.group(2).strip()]
    found = [re.fullmatch(r" *- ([^\s#{}\[\]&*!|>][^#{}\[\]]*?)\s*(?:#.*)?", line) for line in lines]
    return [m.group(1) for m in found if m] if all(found) else None
