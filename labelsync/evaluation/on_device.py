"""Confusion counts where the model is: on a GPU neither logits nor maps leave it, only some kilobytes of counts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelsync.evaluation.confusion import Counts


def confusion_on_device(label: npt.NDArray[Any], prediction: torch.Tensor, num_labels: int) -> Counts:
    """(K, K + 1) int64 as `confusion` counts them, by torch on the prediction's device.

    Args:
        label: (H, W) disk ids, none above K.
        prediction: (H, W) disk ids of any integer dtype, none above K.
        num_labels: K.
    """
    size = num_labels + 1
    meant = torch.from_numpy(label.astype(np.int32 if label.itemsize > 1 else np.uint8)).to(prediction.device)
    code = meant.long().mul_(size).add_(prediction)
    counts = torch.bincount(code.flatten(), minlength=size * size).view(size, size)[1:]
    return counts.cpu().numpy()
