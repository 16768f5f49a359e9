"""A loss that is not finite: the sentence names the first bad step, however late it is looked for."""

import pytest
import torch

from advprune.errors import UserError
from advprune.modules.finite import Finite


def losses(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_the_processor_is_told_at_once() -> None:
    finite = Finite()
    finite.see(torch.tensor(1.0), epoch=1, step=1)
    with pytest.raises(UserError, match=r"^the loss is nan in epoch 1, step 2; lower the learning rate"):
        finite.see(torch.tensor(torch.nan), epoch=1, step=2)


def test_the_first_bad_step_is_named_though_later_ones_are_bad_too() -> None:
    finite = Finite(every=5)
    for step, loss in enumerate(losses(1.0, torch.inf, torch.nan, 2.0), start=8):
        finite.see(loss, epoch=3, step=step)  # not yet looked for
    with pytest.raises(UserError, match="the loss is inf in epoch 3, step 9;"):
        finite.see(torch.tensor(1.0), epoch=3, step=12)


def test_a_check_looks_at_any_time_and_good_losses_pass() -> None:
    finite = Finite(every=100)
    finite.check()
    for step, loss in enumerate(losses(1.0, 3e38, 0.0), start=1):
        finite.see(loss, epoch=1, step=step)
    finite.check()
    finite.see(torch.tensor(-torch.inf), epoch=2, step=4)
    with pytest.raises(UserError, match="the loss is -inf in epoch 2, step 4;"):
        finite.check()
