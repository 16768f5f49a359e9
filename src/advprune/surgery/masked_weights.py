"""Put masks into weights: once and for good, or as effective weights that many passes share."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from advprune.masks import Masks, check, matched


def apply(model: nn.Module, masks: Masks) -> nn.Module:
    """Zero the masked weights in place, then check that they are.

    Nothing is changed unless every mask fits. Mode, gradients and flags stay as they are.

    Args:
        model: a network.
        masks: one per prunable weight; they may lie on another device.

    Returns:
        The same model.

    Raises:
        UserError: naming the tensor, if masks and model do not fit.
    """
    with torch.no_grad():
        for weight, mask in matched(model, masks).values():
            weight.masked_fill_(~mask, 0)
    check(model, masks)
    return model


class Process(Protocol):
    """What a ``Subnet`` asks of a pruner that trains; see ``pruners/process.py``."""

    weights: dict[str, nn.Parameter]

    def mask(self, name: str) -> Tensor:
        """Return the mask of one of its weights."""

    def masks(self) -> Masks:
        """Return a copy of the masks."""

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight that the network computes with."""

    def final_weights(self) -> dict[str, Tensor]:
        """Return the values of its weights in the end."""

    def held_in_eval(self, net: nn.Module) -> list[nn.Module]:
        """Return the modules that stay in eval mode."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what it trains beside the network."""

    def buffers(self) -> Iterator[Tensor]:
        """Yield what else decides its effective weights."""


class Effective:
    """Effective weights by name, and the state of what they were computed from.

    Args:
        weights: the effective weights; with a graph to the sources if gradients were on.
        sources: all tensors they were computed from, always in the same order.
    """

    def __init__(self, weights: dict[str, Tensor], sources: Sequence[Tensor]) -> None:
        self.weights = weights
        self._made_from = _state(sources)
        self._graph = [torch.is_grad_enabled() and source.requires_grad for source in sources]
        self._inference = torch.is_inference_mode_enabled()
        self._spent: list[bool] = []
        for weight in weights.values():
            if weight.requires_grad:
                # the hook holds the flag alone: holding self would keep every step's graph alive
                weight.register_hook(partial(_mark, self._spent))

    def stale(self, sources: Sequence[Tensor]) -> bool:
        """Return whether the effective weights must be computed again.

        That is when a source was written or replaced, a backward pass freed the graph, or a graph
        is needed and missing.

        Sources that have been frozen since (an attack does that) leave the weights as good as they
        were.
        """
        if self._spent or (self._inference and not torch.is_inference_mode_enabled()):
            return True
        if _state(sources) != self._made_from:
            return True
        grad = torch.is_grad_enabled()
        return grad and any(
            s.requires_grad and not had for s, had in zip(sources, self._graph, strict=True)
        )


class _Steps:
    """A count of optimizer steps: fused ones write weights without raising their version."""

    taken = 0

    @classmethod
    def count(cls, *_: object) -> None:
        cls.taken += 1


# the only place that sees every optimizer, whoever built it
register_optimizer_step_post_hook(_Steps.count)


def _state(sources: Sequence[Tensor]) -> list[int]:
    return [
        _Steps.taken,
        *(number for s in sources for number in (id(s), s._version, s.data_ptr())),
    ]


def _mark(spent: list[bool], grad: Tensor) -> None:
    spent.append(True)
