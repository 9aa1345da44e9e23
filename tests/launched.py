"""`python -m tests.launched KEYS train ...`: labelsync as launched, with two things changed for comparison.

Which samples a process loads is written to KEYS/<rank>.json. Batch norms and dropout do as in evaluation: each process
has statistics and draws of its own, so with them two processes are never one with a double batch.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from labelsync.cli.main import main
from labelsync.training.data import TrainingData
from labelsync.training.trainer import SegmentationTrainer


def run(keys: Path, argv: list[str]) -> None:
    """The command, recorded."""
    loaded: list[tuple[int, int]] = []
    load, init = TrainingData.__getitem__, SegmentationTrainer.__init__

    def getitem(self: TrainingData, key: tuple[int, int]) -> Any:
        loaded.append(key)
        return load(self, key)

    def made(self: SegmentationTrainer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        model = self.model.eval()
        model.train = lambda mode=True: model  # type: ignore[method-assign]

    TrainingData.__getitem__ = getitem  # type: ignore[method-assign]
    SegmentationTrainer.__init__ = made  # type: ignore[method-assign]
    main(argv, standalone_mode=False)
    (keys / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(loaded))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
