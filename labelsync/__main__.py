"""`python -m labelsync` and the `labelsync` command."""

import atexit
import gc
import sys

from labelsync.cli.main import main


def leave_memory() -> None:
    """Spare a process that ends its last look for cycles, 0.1 s of a `convert`: its memory goes as a whole.

    Not one that has torch: the compiler beside it would report every object that is left, on a hundred lines.
    """
    if "torch" not in sys.modules:
        gc.freeze()


# Look for cycles after 5,000 new objects, not 700: imports and releases make hundreds of thousands that all stay.
gc.set_threshold(5_000)
atexit.register(leave_memory)

if __name__ == "__main__":
    main()
