"""Which weights learn how fast, and the schedule of steps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from labelsync.errors import OptionError
from labelsync.training.optimizer import head_parameters, norm_parameters, step_schedule
from tests.models import ARCHITECTURES, label_map, tiny_config
from tests.training import trainer


def built(name: str) -> Any:
    from labelsync.model import head

    return head.fresh(head.with_classes(tiny_config(name), label_map("a", "b", "c")), seed=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_a_head_a_backbone_and_norms_that_do_not_decay(name: str) -> None:
    model = built(name)
    heads, norms = head_parameters(model), norm_parameters(model)
    every = {n for n, _ in model.named_parameters()}
    assert heads and every - heads and norms
    changed = {n for n, p in model.named_parameters() if p.ndim == 4 and p.shape[0] == 3}
    assert changed <= heads  # the classifier
    one_dimensional = {n for n, p in model.named_parameters() if p.ndim == 1 and not n.endswith("bias")}
    assert {n for n in one_dimensional if "norm" in n.lower()} <= norms


def groups(tmp_path: Path, **replaced: Any) -> tuple[Any, list[dict[str, Any]]]:
    of = trainer(tmp_path / "run", **replaced)
    return of.model, of.create_optimizer().param_groups


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    model, (decays, free) = groups(tmp_path, weight_decay=0.25)
    names = {id(p): n for n, p in model.named_parameters()}
    assert (decays["weight_decay"], free["weight_decay"]) == (0.25, 0.0)
    assert {names[id(p)] for p in free["params"]} == {
        n for n in names.values() if n.endswith("bias") or n in norm_parameters(model)
    }
    assert len(decays["params"]) + len(free["params"]) == len(names)


def test_the_head_learns_faster_by_its_factor(tmp_path: Path) -> None:
    model, parts = groups(tmp_path, head_factor=10.0, learning_rate=1e-3, weight_decay=0.25)
    names = {id(p): n for n, p in model.named_parameters()}
    assert [(g["lr"], g["weight_decay"]) for g in parts] == [
        (1e-3, 0.25),
        (pytest.approx(1e-2), 0.25),
        (1e-3, 0.0),
        (pytest.approx(1e-2), 0.0),
    ]
    fast = {names[id(p)] for g in parts if g["lr"] > 5e-3 for p in g["params"]}
    assert fast == head_parameters(model) == {n for n in names.values() if n.startswith("decode_head.")}
    assert sum(len(g["params"]) for g in parts) == len(names)


def test_a_factor_moves_the_head_and_not_the_backbone(tmp_path: Path) -> None:
    """One step of plain SGD: what a weight moves is its learning rate times its gradient."""
    moved = []
    for factor in (1.0, 10.0):
        of = trainer(tmp_path / f"x{factor}", head_factor=factor, optimizer="sgd", momentum=0.0, weight_decay=0.0)
        of.create_optimizer()
        before = {n: p.detach().clone() for n, p in of.model.named_parameters()}
        for parameter in of.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        of.optimizer.step()
        moved.append({n: float((before[n] - p).detach().mean()) for n, p in of.model.named_parameters()})
    for name in moved[0]:
        factor = 10 if name.startswith("decode_head.") else 1
        assert moved[1][name] == pytest.approx(factor * moved[0][name], rel=1e-3)


def test_sgd_has_its_momentum(tmp_path: Path) -> None:
    of = trainer(tmp_path / "run", optimizer="sgd", momentum=0.8)
    made = of.create_optimizer()
    assert type(made) is torch.optim.SGD and made.defaults["momentum"] == 0.8
    of = trainer(tmp_path / "other", optimizer="sgd", options=("optim=adamw_torch",))
    assert type(of.create_optimizer()) is torch.optim.AdamW  # --set wins


# -------------------------------------------------------------------- schedules


def rates(of: Any, steps: int) -> list[float]:
    optimizer = of.create_optimizer()
    of.get_train_dataloader()
    of.create_scheduler(steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        of.lr_scheduler.step()
    return found


def test_steps_fall_between_epochs(tmp_path: Path) -> None:
    """Keras' `lr if epoch < 2 else lr / 10 ...`: seven steps an epoch, a tenth every two epochs."""
    of = trainer(tmp_path / "run", schedule="step", step_epochs=2.0, gamma=0.1, warmup=0.0, learning_rate=1.0)
    assert rates(of, 42) == pytest.approx([1.0] * 14 + [0.1] * 14 + [0.01] * 14)


def test_steps_have_a_warm_up_and_count_optimiser_steps(tmp_path: Path) -> None:
    of = trainer(
        tmp_path / "run", schedule="step", step_epochs=1.0, gamma=0.5, warmup=0.25, learning_rate=1.0, accumulate=2
    )
    assert rates(of, 8) == pytest.approx([0, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.5])  # seven batches: four steps


def test_a_fraction_of_an_epoch_is_a_number_of_steps() -> None:
    factor = step_schedule(warmup=0, steps_per_epoch=10, step_epochs=0.25, gamma=0.5)
    assert [factor(step) for step in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_a_schedule_of_set_is_not_the_recipes(tmp_path: Path) -> None:
    of = trainer(
        tmp_path / "run", schedule="step", options=("lr_scheduler_type=linear",), warmup=0.0, learning_rate=1.0
    )
    assert rates(of, 4) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_the_power_of_a_polynomial_reaches_the_trainer(tmp_path: Path) -> None:
    of = trainer(tmp_path / "run", power=2.0, warmup=0.0, learning_rate=1.0)
    assert rates(of, 4) == pytest.approx([1, 0.75**2, 0.5**2, 0.25**2])


def test_a_precision_that_the_machine_lacks_is_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("here it has it")
    try:
        of = trainer(tmp_path / "run", precision="fp16")
    except OptionError as e:
        assert "transformers refuses these settings" in e.message and "recipe" in e.hint
    else:
        assert of.args.fp16


def test_bf16_needs_no_gpu(tmp_path: Path) -> None:
    assert trainer(tmp_path / "run", precision="bf16").args.bf16
