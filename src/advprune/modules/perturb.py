"""Train at adversarially perturbed weights (AWP) or scores (S2AP): a wrapper of a training step.

* Weights: adversarial weight perturbation (Wu et al. 2020, https://arxiv.org/abs/2004.05884). The
  authors' code takes the step on a copy of the network, whose learning rate cancels.
* Scores: score-space sharpness-aware pruning (Piras et al. 2025, https://arxiv.org/abs/2510.18381).
  Of that paper we know the abstract: the formula is AWP's, applied to the scores.

A step is: attack the images, take the loss's gradient by the tensors, move each tensor up it, take
the loss and its gradient there on the same attacked images, and put the tensors back before the
optimizer steps.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.modules.recipe import Perturbed
from advprune.modules.remembered_attack import (
    Objective,
    random_state,
    remembering,
    restore_random_state,
)
from advprune.surgery.subnet import Subnet


@dataclass(frozen=True)
class Target:
    """Hold a tensor that is perturbed.

    Attributes:
        parameter: in the network.
        mask: True where the network sees it; None: everywhere.
    """

    parameter: nn.Parameter
    mask: Tensor | None = None


class Perturbation:
    """Perturb tensors within a training step, and put them back after its backward pass.

    Args:
        gamma: length of a tensor's perturbation as a share of its norm, >= 0.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._originals: list[tuple[Tensor, Tensor]] = []

    def loss(
        self,
        evaluate: Callable[[Objective], Tensor],
        objective: Objective,
        net: nn.Module,
        targets: Mapping[str, Target],
        refresh: Callable[[], None],
    ) -> Tensor:
        """Return the loss at the perturbed tensors; they stay so until ``restore``.

        Both evaluations draw the same random numbers. Running statistics of BatchNorm move once, at
        the perturbed tensors.

        Args:
            evaluate: an objective -> its loss on the batch; on several ranks so weighted that their
                gradients' mean is the batch's.
            objective: whose ``attack``, if it has one, attacks once.
            net: the network.
            targets: what is perturbed, by name.
            refresh: makes what the network computes from its tensors between steps.
        """
        for target in targets.values():
            target.parameter.grad = None  # of the last step; what is put back takes their room
        remembered, attack = remembering(objective)
        device = next(net.parameters()).device
        state = random_state(device)
        with _statistics_kept(net):
            self._climb(evaluate(remembered), targets)
        refresh()
        if attack is not None:
            attack.rewind()
        restore_random_state(device, state)
        return evaluate(remembered)

    def _climb(self, loss: Tensor, targets: Mapping[str, Target]) -> None:
        """Move the targets up the loss's gradient: its mean over the ranks."""
        parameters = [target.parameter for target in targets.values()]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        slopes = {n: slope for n, slope in zip(targets, grads, strict=True) if slope is not None}
        with torch.no_grad():
            for name, slope in collectives.averaged(slopes).items():
                target = targets[name]
                self._originals.append((target.parameter, target.parameter.detach().clone()))
                moved = perturbation(target.parameter, slope, self.gamma, target.mask)
                target.parameter.add_(moved)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the tensors back, bit for bit; without a perturbation do nothing."""
        for parameter, original in self._originals:
            parameter.copy_(original)
        self._originals = []


def targets_of(net: nn.Module, what: Perturbed) -> dict[str, Target]:
    """Return what is perturbed: tensors of two dimensions or more that train.

    Args:
        net: a ``Subnet`` where scores are perturbed.
        what: the network's weights, or what a pruner learns.

    Raises:
        UserError: if nothing of that kind trains.
    """
    process = net.process if isinstance(net, Subnet) else None
    own = set() if process is None else {id(p) for p in process.parameters()}
    of_scores = what is Perturbed.scores
    masks = _masks(net) if isinstance(net, Subnet) and not of_scores else {}
    targets = {
        name: Target(p, masks.get(id(p)))
        for name, p in net.named_parameters()
        if p.requires_grad and p.dim() > 1 and (id(p) in own) is of_scores
    }
    if not targets:
        raise UserError(_nothing(of_scores))
    return targets


def _masks(net: Subnet) -> dict[int, Tensor]:
    """Return a network's masks by the identity of their parameters."""
    parameters = dict(net.net.named_parameters())
    return {id(parameters[name]): mask for name, mask in net.masks.items()}


def perturbation(weight: Tensor, slope: Tensor, gamma: float, mask: Tensor | None = None) -> Tensor:
    """Return gamma * ||weight|| * slope / ||slope||, and zeros where the slope is zero.

    Args:
        weight: any shape.
        slope: the loss's gradient, of the same shape.
        gamma: length as a share of the weight's norm.
        mask: True where the weight is seen; nothing else is moved, or counts in a norm.
    """
    if mask is not None:
        weight, slope = weight * mask, slope * mask
    length = slope.norm()
    return gamma * weight.norm() * slope / torch.where(length > 0, length, 1)


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Put BatchNorm's running statistics back afterwards."""
    kept = [
        (buffer, buffer.clone())
        for module in net.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for buffer in module.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def _nothing(of_scores: bool) -> str:
    return (
        "perturb.what=scores finds no scores: only a search learns some, such as pruner=hydra's; "
        "give search.perturb, or perturb.what=weights"
        if of_scores
        else "perturb.what=weights finds no weights that train: a search leaves them as they are; "
        "give search.perturb.what=scores, or finetune.perturb"
    )
