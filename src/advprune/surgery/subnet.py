"""A network seen through masks: pruned weights count as zero.

Masks are fixed, or a process moves them. All forwards between two optimizer steps share one set of
effective weights, so the ten attack steps of a training step are ten plain forwards and not ten
rankings of every layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from advprune.masks import Masks, buffer_name, matched, prunable
from advprune.surgery.masked_weights import Effective, Process


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
        given = dict(masks or {})
        if process is not None:
            whole = {n: torch.ones_like(p, dtype=torch.bool) for n, p in prunable(net).items()}
            given = whole | given | process.masks()
        self._names = tuple(matched(net, given))
        self._holders = {name: _holders(net, net.get_parameter(name)) for name in self._names}
        self._mask_buffers = nn.Module()
        for name, (_, mask) in matched(net, given).items():
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
        own = [*map(self._weight, self._names), *self._mask_buffers.buffers()]
        if self.process is None:
            return own
        return [*own, *self.process.parameters(), *self.process.buffers()]

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
