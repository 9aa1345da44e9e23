"""`python -m labelsync` and the `labelsync` command."""

from labelsync.cli.main import main

if __name__ == "__main__":
    main()
