"""A loss that is not finite: the sentence names the first bad step, however late it is looked for."""

import pytest
import pytorch_lightning as pl
import torch

from advprune.errors import UserError
from advprune.modules.recipe import Recipe
from advprune.modules.stopping import NonFiniteGuard, check_weights
from advprune.modules.training import RobustTraining


def losses(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_the_processor_is_told_at_once() -> None:
    finite = NonFiniteGuard()
    finite.watch(torch.tensor(1.0), epoch=1, step=1)
    with pytest.raises(
        UserError, match=r"^the loss is nan in epoch 1, step 2; lower the learning rate"
    ):
        finite.watch(torch.tensor(torch.nan), epoch=1, step=2)


def test_the_first_bad_step_is_named_though_later_ones_are_bad_too() -> None:
    finite = NonFiniteGuard(every=5)
    for step, loss in enumerate(losses(1.0, torch.inf, torch.nan, 2.0), start=8):
        finite.watch(loss, epoch=3, step=step)  # not yet looked for
    with pytest.raises(UserError, match="the loss is inf in epoch 3, step 9;"):
        finite.watch(torch.tensor(1.0), epoch=3, step=12)


def test_a_check_looks_at_any_time_and_good_losses_pass() -> None:
    finite = NonFiniteGuard(every=100)
    finite.check()
    for step, loss in enumerate(losses(1.0, 3e38, 0.0), start=1):
        finite.watch(loss, epoch=1, step=step)
    finite.check()
    finite.watch(torch.tensor(-torch.inf), epoch=2, step=4)
    with pytest.raises(UserError, match="the loss is -inf in epoch 2, step 4;"):
        finite.check()


def test_a_weight_that_is_not_finite_is_named_and_counters_are_none() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    check_weights(net.state_dict(), epoch=1)
    net[1].running_var[1] = torch.inf
    with pytest.raises(
        UserError, match=r"^1.running_var is not finite after epoch 3; lower the learning rate"
    ):
        check_weights(net.state_dict(), epoch=3)


def test_a_last_step_that_spoils_the_weights_ends_the_training(tmp_path) -> None:
    """The loss is finite in each step; the gradient is not, and no step comes after it."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))

    def objective(model, x, y, *, progress):
        return (
            model(x).sum() + (0 * model(x)).abs().sqrt().sum()
        )  # the slope of a root at 0: 0 * inf

    data = torch.utils.data.DataLoader([(torch.rand(1, 1, 2), torch.tensor(0))] * 2, batch_size=2)
    module = RobustTraining(net, objective, Recipe(epochs=1), attack=None, seed=0)
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    run = pl.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, limit_val_batches=0, **quiet
    )
    with pytest.raises(UserError, match="is not finite after epoch 1"):
        run.fit(module, data)
