"""A network seen through masks: pruned weights count as zero; masks are fixed, or follow scores.

All forwards between two optimizer steps share one set of effective weights, so the ten attack steps
of a training step are ten plain forwards and not ten rankings of every layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Masks, Scores, matched, prunable
from advprune.surgery.effective import Effective

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class Subnet(nn.Module):
    """A network whose weights are seen through masks; it owns ``net`` from here on.

    Given ``masks``, they are fixed and every parameter of ``net`` trains; pruned weights decay but
    stay unseen. Given ``scores``, it searches: the scores train, weights and biases are frozen, and
    the masks are chosen anew whenever the scores have changed. The ``requires_grad`` flags of
    ``net`` are set to what trains.

    Effective weights are rebuilt by ``refresh()``, and by a forward that finds them stale: after an
    optimizer step, a loaded checkpoint, a move to a device, or a backward pass, which spends their
    graph. Values written through ``tensor.data`` in place are invisible to this; call ``refresh()``
    then. A ``net`` that recomputes activations during the backward pass would do so with unmasked
    weights and is not supported.

    Args:
        net: pixels (N, C, H, W) in [0, 1] -> logits (N, K).
        masks: fixed masks; either these or ``scores``.
        scores: initial scores, one per prunable weight, of its shape.
        choose: scores -> masks; with ``scores`` only.
        through: (weight, scores, mask) -> effective weight that passes gradients to the scores;
            with ``scores`` only.
        bn: normalisation during a search. ``train`` as the authors do: gamma and beta learn,
            running statistics move; ``freeze_affine`` stops gamma and beta; ``freeze_all`` stops
            the statistics too.

    Raises:
        UserError: if masks or scores do not fit ``net`` (naming the tensor), or ``bn`` has no such
            member.
        ValueError: if not exactly one of masks and scores is given, or a search lacks a function.
    """

    def __init__(
        self,
        net: nn.Module,
        masks: Masks | None = None,
        *,
        scores: Scores | None = None,
        choose: Callable[[Scores], Masks] | None = None,
        through: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        bn: Literal["train", "freeze_affine", "freeze_all"] = "train",
        process: Any = None,
    ) -> None:
        super().__init__()
        self.process = process
        if process is not None:
            everything = {n: torch.ones_like(p, dtype=torch.bool) for n, p in prunable(net).items()}
            masks = everything | (masks or {})
            masks = {name: mask for name, mask in masks.items() if name not in process.weights}
            full = masks | process.masks()
        if (
            process is None
            and len({masks is None, scores is not None, choose is not None, through is not None})
            != 1
        ):
            raise ValueError("a Subnet takes either masks, or scores with choose and through")
        if bn not in ("train", "freeze_affine", "freeze_all"):
            raise UserError(f"bn={bn!r} is not one of train, freeze_affine, freeze_all")
        self.net, self._choose, self._through, self._bn = net, choose, through, bn
        self.scores = nn.ParameterDict()
        if scores is not None and choose is not None:
            masks = choose(_fitting(net, scores))
            for name, weight in prunable(net).items():
                self.scores[_key(name)] = nn.Parameter(
                    scores[name].detach().to(weight.device, copy=True)
                )
        pairs = matched(net, full if process is not None else masks or {})
        self._names = tuple(pairs)
        self._holders = {name: _holders(net, weight) for name, (weight, _) in pairs.items()}
        self._mask_buffers = nn.Module()
        for name, (
            _,
            mask,
        ) in pairs.items():
            if process is not None and name in process.weights:
                continue  # a search's masks follow from its scores: only fixed ones are state
            self._mask_buffers.register_buffer(_key(name), mask.clone(), persistent=scores is None)
        self._effective: Effective | None = None
        self._replaced = False
        self._set_flags()
        self.train(net.training)

    @property
    def masks(self) -> Masks:
        """Copy the masks, in a search those of the present scores, on the network's device."""
        self._ensure_fresh()
        return {name: self._mask(name).clone() for name in self._names}

    def set_masks(self, masks: Masks) -> None:
        """Replace the fixed masks by others: a later round of pruning.

        Raises:
            UserError: naming the tensor, if they do not fit ``net``.
            ValueError: in a search, whose masks follow from its scores.
        """
        if self._choose is not None:
            raise ValueError("the masks of a search follow from its scores")
        with torch.no_grad():
            for name, (_, mask) in matched(self.net, masks).items():
                self._mask(name).copy_(mask)

    def refresh(self) -> None:
        """Choose the masks (in a search) and compute the effective weights.

        They have a graph if gradients are on.

        To be called at the start of each training step; all forwards until the next optimizer step
        share the result.
        """
        if self._choose is not None:
            chosen = self._choose({name: self.scores[_key(name)].detach() for name in self._names})
            for name in self._names:
                self._mask(name).copy_(chosen[name])
        made = {name: self._effective_weight(name) for name in self._names}
        # a weight that is its own effective weight stays where it is
        made = {name: value for name, value in made.items() if value is not self._weight(name)}
        self._effective = Effective(made, self._sources())

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

    def trainable(self) -> Iterator[nn.Parameter]:
        """Yield what is trained: in a search scores and unfrozen norms, else all parameters."""
        yield from self.scores.values()
        yield from (parameter for parameter in self.net.parameters() if parameter.requires_grad)

    def export(self) -> tuple[dict[str, Tensor], Masks]:
        """Copy the state dict of ``net``, pruned weights exactly zero, and the masks."""
        masks = self.masks
        state = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        if self.process is not None:
            state |= {n: value.clone() for n, value in self.process.final_weights().items()}
        of_weight = {id(self._weight(name)): mask for name, mask in masks.items()}
        for alias, parameter in self.net.named_parameters(
            remove_duplicate=False
        ):  # a shared weight has two names
            if id(parameter) in of_weight:
                state[alias].masked_fill_(~of_weight[id(parameter)], 0)
        return state, masks

    def train(self, mode: bool = True) -> "Subnet":
        """Set the mode; with ``bn="freeze_all"`` a search keeps normalisation in eval mode."""
        super().train(mode)
        held = [] if self.process is None else self.process.held_in_eval(self.net)
        for module in held:
            module.eval()
        if self._choose is not None and self._bn == "freeze_all":
            for module in _norms(self.net):
                module.eval()
        return self

    def _set_flags(self) -> None:
        if self.process is not None:
            return
        self.net.requires_grad_(self._choose is None)
        if self._choose is not None and self._bn == "train":
            for module in _norms(self.net):
                module.requires_grad_(True)

    def _mask(self, name: str) -> Tensor:
        if self.process is not None and name in self.process.weights:
            return self.process.mask(name)
        return self._mask_buffers.get_buffer(_key(name))

    def _weight(self, name: str) -> nn.Parameter:
        module, key = self._holders[name][0]
        return cast(nn.Parameter, module._parameters[key])

    def _effective_weight(self, name: str) -> Tensor:
        if self.process is not None and name in self.process.weights:
            return self.process.effective(name, self._weight(name))
        if self._through is not None:
            return self._through(self._weight(name), self.scores[_key(name)], self._mask(name))
        return self._weight(name) * self._mask(name).to(self._weight(name).dtype)

    def _sources(self) -> list[Tensor]:
        if self.process is not None:
            learned = [*self.process.parameters(), *self.process.buffers()]
            return [*map(self._weight, self._names), *map(self._mask, self._names), *learned]
        beside = self.scores.values() if self._choose is not None else map(self._mask, self._names)
        return [*map(self._weight, self._names), *beside]

    def _ensure_fresh(self) -> None:
        if self._effective is None or (
            not self._replaced and self._effective.stale(self._sources())
        ):
            self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_effective": None}  # a graph can be neither copied nor pickled


def _fitting(net: nn.Module, scores: Scores) -> Scores:
    shapes = {name: tuple(weight.shape) for name, weight in prunable(net).items()}
    for name in shapes | scores:
        if name not in scores or name not in shapes or tuple(scores[name].shape) != shapes[name]:
            raise UserError(
                f"the scores of {name} do not fit: one score per prunable weight of "
                f"{type(net).__name__}"
            )
    return {name: scores[name].detach() for name in shapes}


def _holders(net: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    return [
        (m, key) for m in net.modules() for key, held in m._parameters.items() if held is parameter
    ]


def _norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, NORMS)]


def _key(name: str) -> str:
    return name.replace(".", ":")
