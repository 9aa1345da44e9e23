"""The house: who may import whom, who owns which vendor, how large a room is. A new package gets its place here."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import labelsync
from labelsync import errors

ROOT = Path(labelsync.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# A package may import what stands before it, never what stands behind.
ORDER = """
    errors taxonomy labels records store pixels sidewalk release dataset hub model evaluation quality training deploy
    pipeline cli __main__
""".split()  # noqa: SIM905 - one picture

VENDORS = {
    "numpy": "anyone",
    "PIL": "anyone",
    "kornia_rs": "pixels/png",
    "simplejpeg": "pixels/jpeg",
    "av": "pixels/video",
    "tqdm": "release dataset hub model evaluation quality training deploy pipeline",
    "click": "cli",
    "filelock": "store/folder",
    "pydantic": "records release training pipeline",
    "requests": "release",
    "fsspec": "release/cloud dataset",
    "urllib3": "release",
    "segments": "release/client",
    "datasets": "dataset",
    "distributed": "dataset/cluster",
    "pyarrow": "dataset hub",
    "jinja2": "dataset hub evaluation training",
    "markupsafe": "evaluation/page",
    "matplotlib": "evaluation/plots",
    "huggingface_hub": "dataset hub model training",
    "torch": "model evaluation training deploy",
    "torchvision": "model training",
    "transformers": "model evaluation training deploy",
    "safetensors": "model training",
    "accelerate": "training",
    "evaluate": "evaluation",
    "scipy": "evaluation",
    "onnx": "deploy",
    "onnxscript": "deploy/graph",
    "onnxruntime": "model/onnx deploy",
}

# What changes something on the Hub; only `hub` calls it. (`upload_asset` is of Segments.ai.)
HUB_WRITES = re.compile(
    r"push_to_hub|upload_(?!asset$)\w+|preupload_lfs_files|merge_pull_request|super_squash_history|Commit(Operation\w*|Scheduler)"
    r"|(create|delete|update|move)_(repo|commit|commits_on_pr|tag|branch|pull_request|file|files|folder|repo_settings)"
)

HEAVY = """
    torch torchvision transformers datasets pyarrow fsspec distributed segments huggingface_hub evaluate matplotlib av
    onnx onnxscript onnxruntime
""".split()  # noqa: SIM905 - as above


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path)


def imports_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) of every import in a file, those inside functions too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively"
            yield node.module or "", [alias.name for alias in node.names]


def rooms_imported(path: Path) -> Iterator[str]:
    """The packages of labelsync that a file imports."""
    for module, names in imports_of(path):
        first, *rest = module.split(".")
        if first == "labelsync":
            yield from rest[:1] or names


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_room_has_its_place_in_the_order():
    assert {room_of(p) for p in MODULES} - {"__init__"} <= set(ORDER)


def test_imports_go_one_way():
    wrong = {
        name_of(p): [r for r in rooms_imported(p) if ORDER.index(r) > ORDER.index(room_of(p))]
        for p in MODULES
        if room_of(p) != "__init__"  # the table of public names, which imports nothing by itself
    }
    assert not {k: v for k, v in wrong.items() if v}


def test_vendors_are_imported_by_their_owners():
    wrong = []
    for path in MODULES:
        where = name_of(path).removesuffix(".py")
        for vendor in (
            {module.split(".")[0] for module, _ in imports_of(path)} - sys.stdlib_module_names - {"labelsync"}
        ):
            assert vendor in VENDORS, f"{where} imports {vendor}: who owns it?"
            owners = VENDORS[vendor].split()
            if owners != ["anyone"] and not any(where == o or where.startswith(f"{o}/") for o in owners):
                wrong.append(f"{where} imports {vendor}, which is of {owners}")
    assert not wrong


def test_every_vendor_is_a_declared_dependency():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # those of `cloud` are found by fsspec, and not imported
    declared = project["dependencies"] + extras["dask"] + extras["onnx"] + extras["video"]
    names = {re.split(r"[<>=!~\[ ]", d)[0].lower().replace("-", "_") for d in declared}
    packages = {"PIL": "pillow", "segments": "segments_ai"}
    imported = {m.split(".")[0] for p in MODULES for m, _ in imports_of(p)} - sys.stdlib_module_names - {"labelsync"}
    assert {packages.get(v, v) for v in imported} == names


def test_only_hub_changes_the_hub():
    wrong = {name_of(p): [n for n in names_used(p) if HUB_WRITES.fullmatch(n)] for p in MODULES if room_of(p) != "hub"}
    assert not {k: v for k, v in wrong.items() if v}


def names_used(path: Path) -> Iterator[str]:
    """Attributes used and names imported in a file."""
    yield from (n.attr for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute))
    yield from (name for _, names in imports_of(path) for name in names)


def test_packages_have_empty_init_files():
    assert [name_of(p) for p in ROOT.glob("*/**/__init__.py") if p.stat().st_size] == []


def test_modules_are_rooms_not_halls():
    lines = {name_of(p): len(p.read_text().splitlines()) for p in MODULES}
    assert not {k: n for k, n in lines.items() if n > 320}  # 300, and a little
    assert not [p for p in MODULES if p.stem in ("utils", "helpers", "common", "misc")]


def test_functions_are_short():
    lines = {
        f"{name_of(path)}:{node.name}": node.body[-1].end_lineno - body_of(node)[0].lineno + 1
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and body_of(node)
    }
    long = {name: n for name, n in lines.items() if n > 30}
    assert not {name: n for name, n in long.items() if n > 50}
    assert len(long) <= len(lines) / 20, long


def body_of(node: ast.FunctionDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def test_nothing_is_printed_past_the_boundary():
    wrong = {
        name_of(p): [n for n in ast.walk(tree_of(p)) if isinstance(n, ast.Name) and n.id in ("print", "input")]
        + [n for n in names_used(p) if n == "stdout"]  # it carries the record; talk goes to stderr
        for p in MODULES
    }
    assert not {k: v for k, v in wrong.items() if v}


def test_the_environment_is_looked_up_where_it_is():
    """`Dataset.map(num_proc=...)` puts a copy in the place of os.environ: a name bound to the old one goes stale."""
    wrong = {name_of(p) for p in MODULES for module, names in imports_of(p) if module == "os" and "environ" in names}
    assert not wrong


def test_things_are_called_by_their_one_name():
    """A bitmap is no mask, and validation is not shortened."""
    wrong = {
        name_of(p): {
            name
            for n in ast.walk(tree_of(p))
            for name in (getattr(n, "id", None) or getattr(n, "arg", None) or getattr(n, "name", None) or "",)
            if isinstance(name, str) and set(name.lower().split("_")) & {"mask", "masks", "val"}
        }
        for p in MODULES
    }
    assert not {k: v for k, v in wrong.items() if v}


def test_what_is_public_says_what_it_is():
    bare = [name_of(p) for p in MODULES if p.stat().st_size and not ast.get_docstring(tree_of(p))]
    bare += [f"{name_of(p)}:{n.name}" for p in MODULES for n in public_in(tree_of(p)) if not ast.get_docstring(n)]
    assert not bare


def public_in(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes, and the public methods of those classes."""
    for n in node.body:
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_"):
            yield n
            if isinstance(n, ast.ClassDef):
                yield from public_in(n)


# ---------------------------------------------------------------- public names, loaded when used


def test_every_public_name_is_there():
    assert labelsync.__all__ == sorted(labelsync.__all__)
    for name in labelsync.__all__:
        assert getattr(labelsync, name).__name__ == name
    assert set(labelsync.__all__) <= set(dir(labelsync))
    with pytest.raises(AttributeError, match="no attribute 'pul'"):
        labelsync.pul  # noqa: B018


def test_no_verb_shares_its_name_with_a_package():
    assert not set(labelsync.__all__) & {room_of(p) for p in MODULES}


LOADED = """
import contextlib, io, sys
import labelsync
{then}
print(*[m for m in {heavy} if m in sys.modules])
"""

HELP = """
from labelsync.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as shown:
    for argv in (["--help"], ["--version"], *([verb, "--help"] for verb in main.commands)):
        main(argv, standalone_mode=False)
assert shown.getvalue().count("Usage: ") == len(main.commands) + 1
"""


@pytest.mark.parametrize("then", ["dir(labelsync)", HELP], ids=["import labelsync", "--help of every command"])
def test_no_heavy_vendor_is_loaded_by(then):
    script = LOADED.format(then=then, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# ---------------------------------------------------------------- errors


def drawn_errors() -> dict[str, tuple[str, str]]:
    """Name -> (parent, builtin in brackets) as the docstring of errors.py draws them."""
    found, branch = {}, []
    for line in (errors.__doc__ or "").splitlines():
        text = line.lstrip("│├└─ ")
        if line.startswith(("│", "├", "└")) or text == "LabelsyncError":
            depth = (len(line) - len(text)) // 4
            name, _, rest = text.partition(" ")
            branch[depth:] = [name]
            builtin = rest[1 : rest.index(")")] if rest.startswith("(") else ""
            found[name] = (branch[depth - 1] if depth else "Exception", builtin)
    return found


def test_the_tree_of_errors_is_the_one_in_the_docstring():
    real = {
        name: (cls.__bases__[0].__name__, "".join(b.__name__ for b in cls.__bases__[1:]))
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception)
    }
    assert drawn_errors() == real


@pytest.mark.parametrize("name", list(drawn_errors()))
def test_errors_carry_their_hint_through_a_process_pool(name):
    import pickle

    error = getattr(errors, name)("what failed", hint="the next move", details=["a", "b"])
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(back), back.message, back.hint, back.details) == (type(error), error.message, error.hint, ("a", "b"))
    assert str(back) == "what failed; the next move"
    assert error.exit_code == {"OptionError": 2, "GateFailed": 3}.get(name, 1)


# ---------------------------------------------------------------- what is installed


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    from zipfile import ZipFile

    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT.parent)).build(directory=str(tmp_path), versions=["standard"])
    packed = {n for n in ZipFile(wheel).namelist() if ".dist-info/" not in n}
    files = {p for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert packed == {p.relative_to(ROOT.parent).as_posix() for p in files}
