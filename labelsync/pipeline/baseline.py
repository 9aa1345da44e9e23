"""The stage `compare`: this round's model against the one that was published last, on the same images and labels.

Splits never move a sample, so neither model was trained on this round's test split.
"""

from labelsync.pipeline.rounds import Round
from labelsync.records.rounds import StageRun


def compare_with_last(round: Round) -> StageRun:
    raise NotImplementedError
