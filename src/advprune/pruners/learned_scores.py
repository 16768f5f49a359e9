"""What methods share that learn one importance score per weight, with the weights frozen."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores, buffer_name
from advprune.pruners.process import Group, Process
from advprune.pruners.task import Task

Init = Literal["scaled", "kaiming", "magnitude"]
BatchNorm = Literal["train", "freeze_affine", "freeze_all"]
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def initial_scores(weights: dict[str, nn.Parameter], *, init: Init, seed: int) -> Scores:
    """Return the scores a search starts from; their absolute value is the importance.

    Args:
        weights: of the dense network, by name.
        init: ``scaled`` is HYDRA's, sqrt(6 / fan_in) * w / max|w| per layer, so the first mask
            is that of magnitude pruning; ``magnitude`` is w itself; ``kaiming`` is random, as in
            hidden networks.
        seed: of ``kaiming``; the others draw nothing.

    Returns:
        One signed tensor per weight, of its shape and on its device.

    Raises:
        UserError: for an unknown init, or a layer of zeros, which cannot be scaled.
    """
    values = {name: weight.detach() for name, weight in weights.items()}
    if init == "scaled":
        return {name: _scaled(name, weight) for name, weight in values.items()}
    if init == "magnitude":
        return {name: weight.clone() for name, weight in values.items()}
    if init == "kaiming":
        generator = torch.Generator().manual_seed(seed)
        return {name: _kaiming(weight, generator) for name, weight in values.items()}
    raise UserError(
        f"init={init!r} is not one of scaled, kaiming, magnitude; write for example "
        "pruner.process.init=scaled"
    )


def _scaled(name: str, weight: Tensor) -> Tensor:
    largest = weight.abs().max()
    if largest == 0:
        raise UserError(
            f"every weight of {name} is zero, so its scores cannot be scaled; use init=kaiming"
        )
    fan_in = weight[0].numel()
    return math.sqrt(6 / fan_in) * weight / largest


def _kaiming(weight: Tensor, generator: torch.Generator) -> Tensor:
    scores = torch.empty(weight.shape, dtype=weight.dtype)
    return nn.init.kaiming_uniform_(scores, a=math.sqrt(5), generator=generator).to(weight.device)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scores)
        return weight * mask.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        weight, scores = ctx.saved_tensors
        return None, grads[0] * weight * scores.sign(), None


def straight_through(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return w * mask, with the gradient of w * |s| for the scores and none for the weight.

    The choice of the largest passes gradients as the identity does, so dL/ds = w * dL/dw_eff *
    sign(s): pruned entries learn too and can come back, all but a score of exactly zero.

    Args:
        weight: any shape.
        scores: of the weight's shape, on its device.
        mask: bool, of the weight's shape, on its device.
    """
    return _StraightThrough.apply(weight, scores, mask)


class LearnedScores(Process):
    """Train a score per removable weight; weights and biases stay as they are.

    Args:
        net: the network whose weights are searched.
        task: what is asked for.
        init: what the scores start from, see ``initial_scores``.
        bn: normalisation meanwhile. ``train`` as the authors do: gamma and beta learn, running
            statistics move; ``freeze_affine`` stops gamma and beta; ``freeze_all`` stops the
            statistics too.
    """

    def __init__(
        self, net: nn.Module, task: Task, *, init: Init = "scaled", bn: BatchNorm = "train"
    ) -> None:
        super().__init__(net, task)
        if bn not in ("train", "freeze_affine", "freeze_all"):
            raise UserError(f"bn={bn!r} is not one of train, freeze_affine, freeze_all")
        if bn != "train" and not _norms(net):
            raise UserError(
                f"pruner.process.bn={bn} is not looked at: this network has no normalisation; "
                "leave it at train"
            )
        self.bn = bn
        scores = initial_scores(self.weights, init=init, seed=task.seed)
        self._scores = nn.ParameterDict(
            {buffer_name(name): nn.Parameter(score.clone()) for name, score in scores.items()}
        )

    def score(self, name: str) -> nn.Parameter:
        """Return the score of one weight, signed; its absolute value is the importance."""
        return self._scores[buffer_name(name)]

    def scores(self) -> Scores:
        """Return a copy of the scores; filters are ranked by their sums."""
        return {name: self.score(name).detach().clone() for name in self.weights}

    def importance(self) -> Scores:
        """Return |score| of each weight."""
        return {name: self.score(name).detach().abs() for name in self.weights}

    def groups(self, net: nn.Module) -> list[Group]:
        """Freeze all of the network but what normalisation may learn; train that and the scores."""
        net.requires_grad_(False)
        for module in _norms(net):
            module.requires_grad_(self.bn == "train")
        affine = (p for p in net.parameters() if p.requires_grad)
        return [Group([*self._scores.values(), *affine])]

    def held_in_eval(self, net: nn.Module) -> list[nn.Module]:
        """Keep normalisation in eval mode if its statistics are frozen."""
        return _norms(net) if self.bn == "freeze_all" else []

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the masked weight, through which gradients reach the score."""
        return straight_through(weight, self.score(name), self.mask(name))


def _norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, NORMS)]
