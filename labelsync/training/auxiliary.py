"""The second head that BEiT, Data2Vec, DPT and UPerNet train beside the first: their outputs without their own loss."""

from typing import Any

import torch
from transformers import PreTrainedModel


class AuxiliaryOutput:
    """What a model's auxiliary head gave in the last forward pass; such a model returns it to nobody.

    Inference does not use the head, and is none the slower for it. Its loss counts `weight` times: the config's
    `auxiliary_loss_weight`, 0.4 as in PSPNet (Zhao et al. 2017, section 4.2).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = getattr(model, "auxiliary_head", None)
        self.weight = float(getattr(model.config, "auxiliary_loss_weight", 0.0))
        self._output: torch.Tensor | None = None
        self._hook = head.register_forward_hook(self._keep) if isinstance(head, torch.nn.Module) else None

    def _keep(self, head: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:  # noqa: ARG002 - torch's
        self._output = output if torch.is_grad_enabled() else None

    def take(self) -> torch.Tensor | None:
        """(N, K, h, w) logits, once; None if there is no such head."""
        output, self._output = self._output, None
        return output

    def close(self) -> None:
        """Leave the model as it was."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
