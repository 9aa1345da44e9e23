"""The training loss: one for all architectures, where the models' own differ and some give NaN or refuse.

Every part of it is a sum over pixels or over images, divided by a total of the whole optimiser step. So the gradients
of that step's batches, in whatever processes, add up to the gradient of one large batch, however the ignored pixels are
spread over them. Where nothing is labelled the loss is 0, not NaN.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from labelsync.training.knobs import Loss


@dataclass(frozen=True)
class Criterion:
    """The loss of a recipe.

    Attributes:
        ignore_index: the model id that counts nowhere.
        loss: which parts, and how strong. Its `smoothing` is not looked at: `--set` may have another.
        smoothing: share of each target spread over all classes.
        weights: (K,) float32, one per class; None = all alike.
    """

    ignore_index: int
    loss: Loss
    smoothing: float = 0.0
    weights: torch.Tensor | None = None

    def totals(self, labels: torch.Tensor) -> torch.Tensor:
        """(2,) float64 (see `exact`): weight of the pixels that count, and number of images with any labelled pixel.

        They depend on the labels alone, and those of several batches can be added.

        Args:
            labels: (N, H, W) model ids of any integer dtype.
        """
        flat = labels.reshape(len(labels), -1)
        labelled = flat != self.ignore_index
        numbers = labelled.sum(1)
        weight = numbers.to(exact(flat.device))
        if self.weights is not None:
            of_pixel = self.weights.to(weight)[flat.long().where(labelled, 0)]
            weight = (of_pixel * labelled).sum(1)
        if self.loss.ohem < 1:  # the hardest are not known yet: as if they had the image's mean weight
            weight = weight * hardest(numbers, self.loss.ohem) / numbers.clamp(min=1)
        return torch.stack([weight.sum(), (numbers > 0).sum().to(weight)])

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, *, totals: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, as its share of the optimiser step.

        Args:
            logits: (N, K, h, w), raised to the labels' size by bilinear interpolation.
            labels: (N, H, W) model ids of any integer dtype.
            totals: (2,) as `totals` gives them, of the whole optimiser step.
        """
        if logits.shape[-2:] != labels.shape[-2:]:
            logits = functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        logits, labels = logits.float(), labels.long()
        pixels, images = totals.where(totals > 0, torch.ones_like(totals))
        value: torch.Tensor = self._cross_entropy(logits, labels) / pixels
        if self.loss.dice:
            value = value + self.loss.dice * dice(logits, labels, ignore_index=self.ignore_index) / images
        return value

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed over the pixels that count."""
        plain = not self.loss.focal and self.loss.ohem == 1
        each = functional.cross_entropy(
            logits,
            labels,
            weight=None if self.weights is None else self.weights.to(logits.device),
            ignore_index=self.ignore_index,
            reduction="sum" if plain else "none",
            label_smoothing=self.smoothing,
        )
        if self.loss.focal:
            each = each * ease(logits, labels, ignore_index=self.ignore_index) ** self.loss.focal
        if self.loss.ohem < 1:
            return sum_of_hardest(each, labels != self.ignore_index, self.loss.ohem)
        return each if plain else each.sum()


def ease(logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """(N, H, W): 1 - p of the labelled class, p being its probability: the base of the focal loss's factor.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4: FL = (1 - p_t)^gamma * -log(p_t). An ignored
    pixel gets any value: its cross entropy is 0.
    """
    target = labels.where(labels != ignore_index, 0)[:, None]
    picked = functional.log_softmax(logits, dim=1).gather(1, target)[:, 0]
    # not 1 - exp(x): where p is 1 the power's slope at 0 would be infinite for a gamma below 1
    return (-torch.expm1(picked)).clamp(min=1e-6)


def hardest(numbers: torch.Tensor, share: float) -> torch.Tensor:
    """How many of each image's `numbers` labelled pixels count; at least one where there is any."""
    return (numbers.to(exact(numbers.device)) * share).ceil().long()


def exact(device: torch.device) -> torch.dtype:
    """Of sums over pixels: float64, which Apple's GPUs do not have; float32 counts whole pixels up to 16 million."""
    return torch.float32 if device.type == "mps" else torch.float64


def sum_of_hardest(each: torch.Tensor, labelled: torch.Tensor, share: float) -> torch.Tensor:
    """The sum over each image's labelled pixels with the highest loss.

    Online hard example mining (Shrivastava et al. 2016, "Training Region-based Object Detectors with Online Hard
    Example Mining") for pixels. Chosen image by image and not over the batch, so that what counts of an image does not
    depend on what it is batched with.

    Args:
        each: (N, H, W) losses. labelled: (N, H, W) bool. share: of the labelled pixels that count.
    """
    total = each.new_zeros(())
    for losses, here in zip(each, labelled, strict=True):
        of_image = losses[here]
        total = total + of_image.topk(int(hardest(here.sum(), share))).values.sum()
    return total


def dice(logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int) -> torch.Tensor:
    """Dice loss per image, summed over the images.

    Of an image: 1 - the mean over the classes labelled in it of 2 sum(p t) / (sum(p) + sum(t)), where p is the softmax
    and t is 1 where the class is labelled, both over labelled pixels. Milletari et al. 2016, "V-Net", equation 1, with
    the plain sums of Drozdzal et al. 2016 in place of squares. Per image and not over the batch: a Dice over a batch is
    a ratio of sums, and the gradients of its parts do not add up to that of the whole.

    Args:
        logits: (N, K, H, W). labels: (N, H, W) int64 model ids.
    """
    number, classes = logits.shape[:2]
    labelled = labels != ignore_index
    targets = labels.where(labelled, 0).reshape(number, 1, -1)
    counted = labelled.reshape(number, 1, -1).to(logits.dtype)
    share = logits.softmax(1).reshape(number, classes, -1) * counted
    truth = logits.new_zeros(number, classes).scatter_add_(1, targets[:, 0], counted[:, 0])
    hit = logits.new_zeros(number, classes).scatter_add(1, targets[:, 0], share.gather(1, targets)[:, 0])
    present = truth > 0
    score = torch.where(present, 2 * hit / (share.sum(2) + truth).clamp(min=1), 0)
    kinds = present.sum(1)
    return ((1 - score.sum(1) / kinds.clamp(min=1)) * (kinds > 0)).sum()
