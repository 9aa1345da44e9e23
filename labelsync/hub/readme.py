"""A README that two write: labelsync its marked section and its metadata keys, people everything else."""

import re

BEGIN = "<!-- labelsync: begin (this section is replaced by every push; text outside it stays) -->"
END = "<!-- labelsync: end -->"

# the last begin before an end: a begin that lost its end, or the other way round, is somebody's text
_SECTION = re.compile(r"<!-- labelsync: begin(?:(?!<!-- labelsync: begin).)*?<!-- labelsync: end -->", re.DOTALL)
_HEAD = re.compile(r"\A---\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"^(?:([^\s#'\"\-][^:\n]*)|['\"]([^'\"\n]+)['\"]):(?=\s|$)", re.MULTILINE)
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


def _split(text: str) -> tuple[str, str]:
    """(YAML between the two `---` lines or "", the rest)."""
    head = _HEAD.match(text)
    return (head.group(1), text[head.end() :]) if head else ("", text)


def _joined(head: str, body: str) -> str:
    return f"---\n{head}---\n{body}" if head else body


def _merged_head(theirs: str, ours: str) -> str:
    """Their top-level blocks in their order, ours in place of those that we write, our new ones at the end."""
    blocks, new = _blocks(theirs), _blocks(ours)
    for key, text in new.items():
        blocks[key] = _united(blocks[key], text) if key in _UNITED and key in blocks else text
    return "".join(blocks.values())


def _blocks(head: str) -> dict[str, str]:
    """Top-level key -> its lines, comments below it included; "" -> what stands above the first key.

    By lines and not by a YAML parser, which would lose people's comments and quotes.
    """
    starts = list(_KEY.finditer(head))
    ends = [m.start() for m in starts[1:]] + [len(head)]
    blocks = {"": head[: starts[0].start() if starts else len(head)]}
    for m, end in zip(starts, ends, strict=True):
        blocks[(m.group(1) or m.group(2)).strip()] = head[m.start() : end]
    return blocks


def _united(theirs: str, ours: str) -> str:
    """Two lists of plain words under one key as one list, theirs first; ours alone where one is no such list."""
    their_items, our_items = _items(theirs), _items(ours)
    if their_items is None or our_items is None:
        return ours
    missing = [item for item in our_items if item not in their_items]
    if not missing:
        return theirs
    key = theirs.partition(":")[0]
    return f"{key}:\n" + "".join(f"- {item}\n" for item in [*their_items, *missing])


def _items(block: str) -> list[str] | None:
    """The items of `key: [a, b]`, of `key: a` and of `key:` with lines `- a`; None for anything else."""
    first, *lines = block.partition(":")[2].strip("\n").split("\n")
    first = first.strip()
    if first and not lines:
        inline = re.fullmatch(r"\[([^\[\]{}#]*)\]|([^\[\]{}#&*!|>]+)", first)
        words = (inline.group(1) if inline.group(1) is not None else inline.group(2)).split(",") if inline else None
    else:
        found = [re.fullmatch(r"\s*- ([^#:{}\[\]&*!|>]+)", line) for line in lines]
        words = None if first or not all(found) else [m.group(1) for m in found if m]
    return None if words is None else [w.strip() for w in words if w.strip()]
