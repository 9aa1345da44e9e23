"""`python -m labelsync` and the `labelsync` command."""

import atexit
import gc

from labelsync.cli.main import main

# Look for cycles after 5,000 new objects, not 700: imports and releases make hundreds of thousands that all stay.
gc.set_threshold(5_000)
# The memory of a process that ends goes as a whole: to look for cycles in it first took 0.1 s of a `convert`.
atexit.register(gc.freeze)

if __name__ == "__main__":
    main()
