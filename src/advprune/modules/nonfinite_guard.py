"""End a training whose loss or weights are not finite, without waiting at each step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from advprune.errors import UserError

#: Steps on an accelerator after which the host waits and looks.
EVERY = 50
CURE = "lower the learning rate, add training.warmup_epochs=5 or training.clip=1"


class Finite:
    """Remember, on the loss's own device, the first step whose loss was not finite.

    A step on the host's side is queued while the device still works on those before; to read a loss
    is to wait for it.

    Args:
        every: steps after which to look; None: each on a processor, where there is nothing to wait
            for, else ``EVERY``.
    """

    def __init__(self, every: int | None = None) -> None:
        self._every, self._seen = every, 0
        self._first: Tensor | None = (
            None  # (epoch, step, loss) of the first bad step; epoch 0: none so far
        )

    def see(self, loss: Tensor, *, epoch: int, step: int) -> None:
        """Note a step's loss, a scalar; ``epoch`` and ``step`` count from 1.

        Raises:
            UserError: naming the first bad step, as soon as it is looked for.
        """
        loss = loss.detach()
        if self._first is None or self._first.device != loss.device:
            self._first = torch.zeros(3, device=loss.device)
        here = torch.stack(
            [torch.full_like(self._first[0], float(n)) for n in (epoch, step)] + [loss.float()]
        )
        new = (self._first[0] == 0) & ~loss.isfinite()
        self._first = torch.where(new, here, self._first)
        self._seen += 1
        every = self._every or (1 if loss.device.type == "cpu" else EVERY)
        if self._seen % every == 0:
            self.check()

    def check(self) -> None:
        """Look for a bad loss, waiting for the device: after an epoch, and before a save.

        Raises:
            UserError: if one of the losses so far was not finite.
        """
        if self._first is None:
            return
        epoch, step, loss = self._first.tolist()
        if epoch:
            raise UserError(f"the loss is {loss} in epoch {epoch:.0f}, step {step:.0f}; {CURE}")


def check_weights(weights: Mapping[str, Tensor], *, epoch: int) -> None:
    """Check that every weight is finite.

    A finite loss may have a gradient that is not, and no later step to show it.

    Raises:
        UserError: naming the first that is not finite.
    """
    values = {name: value for name, value in weights.items() if value.is_floating_point()}
    # one wait for all
    good = torch.stack([value.isfinite().all() for value in values.values()]).tolist()
    for name, fine in zip(values, good, strict=True):
        if not fine:
            raise UserError(f"{name} is not finite after epoch {epoch}; {CURE}")
