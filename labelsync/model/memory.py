"""Whether an error means that memory is used up: torch has a class of its own for some of the cases."""

import torch

_SAID = (
    *("out of memory", "_alloc_failed"),  # CUDA, cuBLAS and cuDNN beside torch's own allocator; Apple's GPUs
    *("can't allocate memory", "not enough memory", "unable to allocate", "bad_alloc"),  # the machine's own memory
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Of a GPU or of the machine; on Linux, macOS and Windows torch has other words for the latter."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)
