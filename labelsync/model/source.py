"""Where a model's files are: a folder, an .onnx file, or a Hub repo "user/name[@revision]" in the Hub cache."""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from labelsync.errors import AuthError, LabelsyncError, ModelNotFound, ServiceError
from labelsync.store.files import digest_of, sha256_file
from labelsync.store.manifest import MANIFEST, read_manifest

_HUB_ID = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>.+))?$")

_SETTINGS = ("config.json", "preprocessor_config.json", "id2label.json", MANIFEST)
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
# Only where a repo has no safetensors, as the original nvidia/mit-b0; read by torch's weights_only loader, which
# builds tensors and runs no code of the file.
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


@dataclass(frozen=True)
class ModelFiles:
    """A folder on this machine that holds a model, and the name it was asked for by; `file` = an .onnx file in it."""

    folder: Path
    source: str
    file: Path | None = None

    @property
    def revision(self) -> str:
        """The commit of a Hub repo; "" for a folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else ""

    @property
    def weights(self) -> tuple[Path, ...]:
        """The weight files, safetensors before pickles; empty if the folder holds an architecture only."""
        for patterns in (_SAFETENSORS, _PICKLES):
            found = sorted({p for pattern in patterns for p in self.folder.glob(pattern) if p.suffix != ".json"})
            if found:
                return tuple(found)
        return ()

    @property
    def digest(self) -> str:
        """The manifest's digest where it describes these very files, else one over config, processor and weights."""
        if self.file is not None:
            return sha256_file(self.file)
        names = [self.folder / n for n in ("config.json", "preprocessor_config.json")]
        files = {p.name: sha256_file(p) for p in [*names, *self.weights] if p.is_file()}
        if (self.folder / MANIFEST).is_file():
            manifest = read_manifest(self.folder)
            if all(n in manifest.files and manifest.files[n].sha256 == d for n, d in files.items()):
                return manifest.digest
        return digest_of(files)


def locate(source: str | Path) -> ModelFiles:
    """The files of a model.

    Raises:
        ModelNotFound: no such folder or repo, no such revision, or no config.json in it.
        AuthError: the repo is gated and the token does not open it.
        ServiceError: the Hub cannot be reached and the model is not in the Hub cache.
    """
    path = Path(source).expanduser()
    hub_id = _HUB_ID.match(str(source)) if isinstance(source, str) else None
    if path.is_dir():
        folder = path
    elif path.suffix == ".onnx" and (path.exists() or not hub_id):
        if not path.exists():
            raise ModelNotFound(f"there is no file {source}", hint="labelsync export makes one")
        return ModelFiles(path.parent, str(source), path)
    elif path.exists():
        raise ModelNotFound(f"{source} is a file", hint="give a model folder, an .onnx file or a Hub id user/name")
    elif hub_id:
        folder = _fetch(hub_id["repo"], hub_id["revision"])
    else:
        raise ModelNotFound(f"there is no folder {source}", hint="give a model folder or a Hub id user/name[@revision]")
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{source} has no config.json, so it holds no model", hint="labelsync train makes one")
    return ModelFiles(folder, str(source))


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """A progress bar that shows on a terminal only; the client's own shows in log files too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": None})


def _fetch(repo: str, revision: str | None) -> Path:
    """The snapshot folder of a Hub repo: settings and weights, nothing else of it."""
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    name = f"{repo}@{revision}" if revision else repo
    try:
        fetch = partial(snapshot_download, repo, revision=revision, tqdm_class=_Bar)
        folder = Path(fetch(allow_patterns=[*_SETTINGS, *_SAFETENSORS]))
        if not ModelFiles(folder, name).weights:
            fetch(allow_patterns=[*_SETTINGS, *_PICKLES])
    except hub.GatedRepoError:
        raise AuthError(f"{name} is gated", hint="accept its terms on the Hub and set HF_TOKEN") from None
    except hub.RevisionNotFoundError:
        raise ModelNotFound(f"{repo} has no revision {revision}", hint="look at the tags of the repo") from None
    except hub.RepositoryNotFoundError:
        raise ModelNotFound(
            f"there is no folder {repo} and no model {repo} on the Hub",
            hint="check the name; for a private model set HF_TOKEN",
        ) from None
    except hub.HFValidationError:
        raise ModelNotFound(f"{name} is neither a folder nor a Hub id", hint="Hub ids are user/name") from None
    except Exception as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise  # this machine's trouble: a full disk, a cache that may not be written
        raise _refusal(name, e) from None
    return folder


def _refusal(name: str, error: Exception) -> LabelsyncError:
    """An answer of the Hub, or none: an error status, a dead connection, offline mode, a page that is not its API."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return AuthError(f"the Hub does not let this token read {name}", hint="check HF_TOKEN, or run: hf auth login")
    said = f"answers {status}" if status else "did not answer"
    return ServiceError(
        f"{name} is not in the Hub cache and {endpoint} {said}",
        hint="check the connection and HF_ENDPOINT, or give a folder",
    )
