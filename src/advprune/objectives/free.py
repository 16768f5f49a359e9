"""Free adversarial training (Shafahi et al. 2019, https://arxiv.org/abs/1904.12843).

Each batch is trained on several times; the backward pass that gives the weights' gradient also
moves the perturbation. Differs from HYDRA's code for ImageNet in not setting the perturbation to
zero at the start of an epoch, and in taking the gradient at the clipped image: through the
clipping, black and white pixels have none (on some versions of torch, not on others) and their
perturbation would never leave zero.
"""

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.distributed.sharding import place
from advprune.errors import UserError
from advprune.ranges import Length, refuse_outside
from advprune.threat import Threat


class Free(nn.Module):
    """The objective and its perturbation: one per position in the batch, whatever image is there.

    The perturbation is in the state dict, so that a resumed training goes on with it. On several
    ranks each moves the rows of its own images; ``gather`` puts them together.

    Args:
        threat: the ball.
        replays: how often the training loop repeats a batch, 1 to 1000.
        rel_step: length of an ascent step as a share of ``threat.eps``, above 0.

    Raises:
        UserError: if ``replays`` is below 1 or ``rel_step`` is not above 0.
    """

    def __init__(
        self,
        *,
        threat: Threat,
        replays: Annotated[int, Ge(1), Le(1000)] = 4,
        rel_step: Length = 1.0,
    ):
        super().__init__()
        refuse_outside(Free, replays=replays, rel_step=rel_step)
        self.threat = threat
        self.replays = replays
        self.rel_step = rel_step
        self.noise = torch.zeros(0)

    def forward(self, model: nn.Module, x: Tensor, y: Tensor, *, progress: float) -> Tensor:
        """Compute the mean cross-entropy on perturbed images, clipped to [0, 1].

        The caller's ``backward()`` also moves the perturbation.

        Args:
            model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in its present mode.
            x: clean images (N, C, H, W) in [0, 1].
            y: labels (N,) int64.
            progress: share of training that is done, in [0, 1); not used.

        Returns:
            A scalar.

        Raises:
            UserError: if the images have another shape than those before.
        """
        rows, whole = place(len(x))
        self._resize(x, whole)
        rows = rows.to(x.device)
        x_adv = (x.detach() + self.noise[rows]).clamp(0, 1).requires_grad_()
        x_adv.register_hook(partial(self._ascend, rows))
        return F.cross_entropy(model(x_adv), y)

    def _ascend(self, rows: Tensor, grad: Tensor) -> None:
        step = self.rel_step * self.threat.eps * self.threat.steepest(grad)
        self.noise[rows] = self.threat.clip(self.noise[rows] + step)

    def gather(self) -> None:
        """Give every rank all rows; every rank must call this before the state is saved."""
        if collectives.size() > 1:
            mine = torch.zeros_like(self.noise)
            rows = slice(collectives.rank(), None, collectives.size())
            mine[rows] = self.noise[rows]
            self.noise = collectives.all_reduce_sum(mine)

    def _resize(self, x: Tensor, whole: int) -> None:
        """Make room for a batch of ``whole`` images like ``x``; smaller ones use the first rows."""
        if len(self.noise) and self.noise.shape[1:] != x.shape[1:]:
            raise UserError(
                f"free: the perturbation is {tuple(self.noise.shape)}, the images are "
                f"{tuple(x.shape)}; start afresh"
            )
        self.noise = self.noise.to(x.device)
        if len(self.noise) < whole:
            more = x.new_zeros(whole - len(self.noise), *x.shape[1:])
            self.noise = torch.cat([self.noise.view(-1, *x.shape[1:]), more])

    def get_extra_state(self) -> Tensor:
        """Return the perturbation, (largest batch so far, C, H, W)."""
        return self.noise

    def set_extra_state(self, state: Tensor) -> None:
        """Resume with the perturbation ``state``, (largest batch so far, C, H, W)."""
        self.noise = state.clone()
