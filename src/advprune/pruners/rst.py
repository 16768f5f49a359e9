"""Robust scratch tickets: a subnetwork of random weights that none of them trains (Fu et al. 2021).

NeurIPS 2021, https://arxiv.org/abs/2110.14068. HYDRA's search on a new network whose weights are
signed constants and whose normalisation has no scale or shift. Written from a description of the
authors' code. Differs from it: exact counts; any scope; one ranking a step.
"""

import math

import torch
from torch import Tensor, nn

from advprune.pruners.hydra import Hydra
from advprune.pruners.learned_scores import Init
from advprune.pruners.process import Batches, Group
from advprune.pruners.task import Task


class Rst(Hydra):
    """Train scores of weights that are all sqrt(2 / fan_in) or minus that.

    Args:
        net: a new network; of a trained one the signs alone are left.
        task: what is asked for.
        init: what the scores start from, see ``learned_scores.initial_scores``.
    """

    def __init__(self, net: nn.Module, task: Task, *, init: Init = "kaiming") -> None:
        super().__init__(net, task, init=init)

    def groups(self, net: nn.Module) -> list[Group]:
        """Train the scores alone, with all of the network frozen."""
        net.requires_grad_(False)
        return [Group(list(self._scores.values()))]

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Set the weights, and each normalisation's scale to 1 and shift to 0."""
        for weight in self.weights.values():
            weight.copy_(signed_constant(weight))
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        super().start(net, batches)


def signed_constant(weight: Tensor) -> Tensor:
    """Return sqrt(2 / fan_in) with the signs of the weight; zero counts as positive."""
    size = math.sqrt(2 / weight[0].numel())
    return torch.where(weight.detach() < 0, -size, size).to(weight.dtype)
