"""Every error a user of labelsync can meet. Imports nothing.

LabelsyncError
├── OptionError (ValueError)              a parameter or flag has a value that cannot be used; exit code 2
├── AuthError (PermissionError)           key or token missing, refused, or without the needed right
├── ServiceError (ConnectionError)        Segments.ai, the Hub or a storage host cannot be reached or answers nonsense
├── ReleaseError                          the release itself
│   ├── ReleaseNotFound (FileNotFoundError)   no such file, dataset or release
│   ├── ReleaseFormatError (ValueError)       not a Segments.ai release, or of a task type without pixels
│   └── ReleaseNotReady (TimeoutError)        still PENDING after the wait, or FAILED on the server
├── AssetError (OSError)                  one image or bitmap could not be fetched whole
├── BitmapError (ValueError)              one bitmap or image cannot be turned into class ids
├── TaxonomyError (ValueError)            categories that cannot be mapped to disk ids without a decision
├── SamplesFailed                         samples were lost and no number of losses was allowed
├── DatasetError (ValueError)             a dataset folder or repo that cannot be used as asked
│   └── DatasetNotFound (FileNotFoundError)
├── ModelError (ValueError)               a model that cannot be loaded or does not fit the dataset
│   └── ModelNotFound (FileNotFoundError)
├── PublishError                          the Hub has not taken the publication, or holds something else
├── OutputError (OSError)                 the output cannot be written
│   ├── OutputExists (FileExistsError)        something else lies there
│   └── OutputLocked (BlockingIOError)        another labelsync is writing there
└── GateFailed                            a stated threshold is not met; exit code 3
"""

from collections.abc import Sequence


class LabelsyncError(Exception):
    """Root of every expected error.

    Args:
        message: one line: what failed, and on which sample or file.
        hint: the next move, one line, in words a user can act on.
        details: further lines, one per sample or file, when one error stands for many.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # said here because Dask makes pickle rebuild exceptions in a way that fails for two base classes
        return _rebuilt, (type(self), self.message, self.hint, self.details), dict(vars(self))


def _rebuilt(kind: type[LabelsyncError], message: str, hint: str, details: tuple[str, ...]) -> LabelsyncError:
    return kind(message, hint=hint, details=details)


class OptionError(LabelsyncError, ValueError):
    """A parameter or flag has a value that cannot be used."""

    exit_code = 2


class AuthError(LabelsyncError, PermissionError):
    """A key or token is missing, refused, or lacks the needed right. Never carries the secret."""


class ServiceError(LabelsyncError, ConnectionError):
    """A server cannot be reached, fails, or answers something that is not its protocol."""


class ReleaseError(LabelsyncError):
    """Something about a release."""


class ReleaseNotFound(ReleaseError, FileNotFoundError):
    """No such release file, dataset or release."""


class ReleaseFormatError(ReleaseError, ValueError):
    """The file is not a Segments.ai release, or its task type has no pixels."""


class ReleaseNotReady(ReleaseError, TimeoutError):
    """The release is still PENDING after the wait, or FAILED on the server."""


class AssetError(LabelsyncError, OSError):
    """One image or bitmap could not be fetched whole."""


class BitmapError(LabelsyncError, ValueError):
    """One bitmap or image cannot be turned into class ids."""


class TaxonomyError(LabelsyncError, ValueError):
    """Categories cannot be mapped to disk ids without a decision by the user."""


class SamplesFailed(LabelsyncError):
    """Samples were lost; `details` has one line per sample."""


class DatasetError(LabelsyncError, ValueError):
    """A dataset cannot be used as asked."""


class DatasetNotFound(DatasetError, FileNotFoundError):
    """No finished dataset at that path or Hub id."""


class ModelError(LabelsyncError, ValueError):
    """A model cannot be loaded or does not fit the dataset."""


class ModelNotFound(ModelError, FileNotFoundError):
    """No model at that path or Hub id."""


class PublishError(LabelsyncError):
    """The Hub has not taken the publication, or holds something else under that name."""


class OutputError(LabelsyncError, OSError):
    """The output cannot be written."""


class OutputExists(OutputError, FileExistsError):
    """Something else already lies at the output path."""


class OutputLocked(OutputError, BlockingIOError):
    """Another labelsync process is writing to the same place."""


class GateFailed(LabelsyncError):
    """A threshold the user stated is not met. `record` is what the verb would have returned."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = (), record: object = None) -> None:
        super().__init__(message, hint=hint, details=details)
        self.record = record


def first_line(error: BaseException, *, longest: int = 200) -> str:
    """What a vendor's error says, for a line of ours: its first line with any text, without terminal colours.

    An error that says nothing is told by its type; of one of ours it is the message, without the hint.
    """
    text = error.message if isinstance(error, LabelsyncError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return "".join(c for c in lines[0] if c.isprintable())[:longest]
