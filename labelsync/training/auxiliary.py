"""The second head that BEiT, Data2Vec, DPT and UPerNet train beside the first: its outputs without their own loss."""

from typing import Any

import torch
from transformers import PreTrainedModel

_KEY = "auxiliary_logits"


class AuxiliaryOutput:
    """What a model's auxiliary head gives in training, handed over with the model's own outputs.

    The models compute them and return them to nobody. They have to come out of `forward`: of several processes torch
    looks there for what has gradients, and refuses those of a head that it took for unused. With them the outputs are a
    plain dictionary, since transformers' own kind is taken apart on the way and put together without what is new to it.

    Inference does not use the head, and is none the slower for it. Its loss counts `weight` times: the config's
    `auxiliary_loss_weight`, 0.4 as in PSPNet (Zhao et al. 2017, section 4.2).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = getattr(model, "auxiliary_head", None)
        self.weight = float(getattr(model.config, "auxiliary_loss_weight", 0.0))
        self._output: torch.Tensor | None = None
        self._hooks = (
            (head.register_forward_hook(self._keep), model.register_forward_hook(self._hand_over))
            if isinstance(head, torch.nn.Module)
            else ()
        )

    def _keep(self, head: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:  # noqa: ARG002 - torch's
        self._output = output if torch.is_grad_enabled() else None

    def _hand_over(self, model: torch.nn.Module, inputs: Any, outputs: Any) -> Any:  # noqa: ARG002 - torch's
        output, self._output = self._output, None
        return outputs if output is None else {**outputs, _KEY: output}

    @staticmethod
    def of(outputs: Any) -> torch.Tensor | None:
        """(N, K, h, w) logits among a model's outputs; None if there is no such head."""
        found: torch.Tensor | None = outputs.get(_KEY)
        return found

    def close(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = ()
