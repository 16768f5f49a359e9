"""Put masks into a network: for good (``apply``), or as what its weights are seen through.

Masks are fixed, or a process moves them. All forwards between two optimizer steps share one set of
effective weights, so the ten attack steps of a training step are ten plain forwards and not ten
rankings of every layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from advprune.masks import Masks, buffer_name, check, matched, prunable


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


class Subnet(nn.Module):
    """A network whose weights are seen through masks; it owns ``net`` from here on.

    Given ``masks``, they are fixed; pruned weights decay but stay unseen. Given a ``process``, it
    says what its weights count as. Effective weights are rebuilt by ``refresh()``, and by a forward
    that finds them stale: after an optimizer step, a loaded checkpoint, a move to a device, changed
    masks, or a backward pass, which spends their graph. Values written through ``tensor.data`` in
    place are invisible to this; call ``refresh()`` then. A ``net`` that recomputes activations
    during the backward pass would do so with unmasked weights and is not supported.

    Args:
        net: pixels (N, C, H, W) in [0, 1] -> logits (N, K).
        masks: fixed masks; with a process, those of the weights that it leaves alone, if not all of
            them are kept.
        process: made for ``net``; either this or masks, or both.

    Raises:
        UserError: naming the tensor, if masks do not fit ``net``.
        ValueError: if neither is given.
    """

    def __init__(
        self, net: nn.Module, masks: Masks | None = None, *, process: Process | None = None
    ) -> None:
        super().__init__()
        if masks is None and process is None:
            raise ValueError("a Subnet takes masks, or a process")
        self.net, self.process = net, process
        given_masks = dict(masks or {})
        if process is not None:
            whole = {n: torch.ones_like(p, dtype=torch.bool) for n, p in prunable(net).items()}
            given_masks = whole | given_masks | process.masks()
        self._names = tuple(matched(net, given_masks))
        self._holders = {name: _holders(net, net.get_parameter(name)) for name in self._names}
        self._mask_buffers = nn.Module()
        for name, (_, mask) in matched(net, given_masks).items():
            if not self._moves(name):
                self._mask_buffers.register_buffer(buffer_name(name), mask.clone())
        self._effective: Effective | None = None
        self._replaced = False
        if process is None:
            net.requires_grad_(True)
        self.train(net.training)

    @property
    def masks(self) -> Masks:
        """Copy the masks, on the network's device."""
        return {name: self._mask(name).clone() for name in self._names}

    def refresh(self) -> None:
        """Compute the effective weights, with a graph if gradients are on.

        To be called at the start of each training step; all forwards until the next optimizer step
        share the result.
        """
        weights = {name: self._effective_weight(name) for name in self._names}
        # what is its own effective weight stays in its place
        weights = {n: value for n, value in weights.items() if value is not self._weight(n)}
        self._effective = Effective(weights, self._sources())

    @contextmanager
    def pruned(self) -> Iterator[nn.Module]:
        """Yield ``net`` with effective weights in place of its own, for code that reads weights.

        Bounds do.
        """
        if self._replaced:
            yield self.net
            return
        self._ensure_fresh()
        assert self._effective is not None
        originals = [
            (module, key, self._weight(name))
            for name in self._names
            for module, key in self._holders[name]
        ]
        self._replaced = True
        # as torch.func.functional_call does, with the places looked up once and not per forward
        try:
            for name, weight in self._effective.weights.items():
                for module, key in self._holders[name]:
                    module._parameters[key] = cast(nn.Parameter, weight)
            yield self.net
        finally:
            for module, key, parameter in originals:
                module._parameters[key] = parameter
            self._replaced = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the pruned network's logits (N, K) at pixels ``x`` (N, C, H, W)."""
        with self.pruned() as net:
            return net(x)

    def export(self) -> tuple[dict[str, Tensor], Masks]:
        """Copy the state dict of ``net``, pruned weights exactly zero, and the masks."""
        masks = self.masks
        state = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        final = {} if self.process is None else self.process.final_weights()
        aliases = self.net.named_parameters(remove_duplicate=False)
        shared = {id(self._weight(name)): name for name in self._names}
        for alias, parameter in aliases:  # a shared weight has two names
            name = shared.get(id(parameter))
            if name is not None:
                state[alias].copy_(final.get(name, parameter)).masked_fill_(~masks[name], 0)
        return state, masks

    def train(self, mode: bool = True) -> "Subnet":
        """Set the mode; what the process holds in eval mode stays there."""
        super().train(mode)
        for module in [] if self.process is None else self.process.held_in_eval(self.net):
            module.eval()
        return self

    def _moves(self, name: str) -> bool:
        """Return whether the process has this weight."""
        return self.process is not None and name in self.process.weights

    def _mask(self, name: str) -> Tensor:
        if self.process is not None and self._moves(name):
            return self.process.mask(name)
        return self._mask_buffers.get_buffer(buffer_name(name))

    def _weight(self, name: str) -> nn.Parameter:
        module, key = self._holders[name][0]
        return cast(nn.Parameter, module._parameters[key])

    def _effective_weight(self, name: str) -> Tensor:
        weight = self._weight(name)
        if self.process is not None and self._moves(name):
            return self.process.effective(name, weight)
        return weight * self._mask(name).to(weight.dtype)

    def _sources(self) -> list[Tensor]:
        """List everything that effective weights are computed from."""
        of_network = [*map(self._weight, self._names), *self._mask_buffers.buffers()]
        if self.process is None:
            return of_network
        return [*of_network, *self.process.parameters(), *self.process.buffers()]

    def _ensure_fresh(self) -> None:
        if self._effective is None or (
            not self._replaced and self._effective.stale(self._sources())
        ):
            self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_effective": None}  # a graph can be neither copied nor pickled


def _holders(net: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    return [
        (m, key) for m in net.modules() for key, held in m._parameters.items() if held is parameter
    ]


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
