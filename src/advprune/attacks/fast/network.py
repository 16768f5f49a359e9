"""Make the copy that searches: BatchNorm folded, in bfloat16 where that is faster."""

import copy
import logging
from functools import cache

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from advprune.attacks.fast.chain import NoChainError, chain_of, dense_layer, mostly_zero
from advprune.attacks.fast.padded import PaddedSearcher
from advprune.attacks.fast.row_ops import spread
from advprune.attacks.fast.searcher import ChainSearcher, Precision, Searcher
from advprune.attacks.fast.sparse_layer import sparse_layer
from advprune.attacks.fast.traced_modules import traced_modules
from advprune.frozen import effective_network
from advprune.logits import margin
from advprune.runtime.speed import multiplies_bf16
from advprune.threat import Threat

PRECISIONS = ("fp32", "bf16")
#: The largest error of a copy's logit, as a share of the spread of the image's logits, for the copy
#: to be used.
TRUSTED = {"fp32": 1e-3, "bf16": 0.05}
#: The largest mean shift of the decision boundary by bf16, as a share of the radius.
MOVED = 0.003
#: Mean output channels from which a CPU is faster in bf16; narrower networks pay more for casts.
WIDE = 64
log = logging.getLogger(__name__)


def searcher(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    expected: Tensor,
    threat: Threat,
    precision: Precision | None = None,
) -> Searcher:
    """Make the fastest copy of ``model`` whose logits on ``x`` agree with the model's.

    Args:
        model: pixels -> logits, frozen, in eval mode; not changed.
        x: images (N, C, H, W) in [0, 1] to compare on.
        y: their labels (N,).
        expected: the model's logits at them (N, K).
        threat: the ball: bf16 is not used where its rounding matters beside the radius.
        precision: precision of the search; None for the fastest on the device.

    Returns:
        The copy, or the model itself if no copy agrees.
    """
    plain = Searcher(model, "fp32", folded=False)
    folded = _folded(model) if len(x) else None
    if folded is None:
        return plain
    kind = PaddedSearcher if x.is_cuda else Searcher
    copied = kind(folded, "fp32", folded=True)
    if not _agrees(copied, x, expected):
        log.info("the search uses the network itself in fp32: its folded copy gives other logits")
        return plain
    if precision == "bf16" and not multiplies_bf16(x.device):
        _say_fp32()
        precision = "fp32"
    half = _in_bf16(folded) if (precision or fastest(folded, x.device)) == "bf16" else None
    if half is None:
        chain = None if x.is_cuda else _as_chain(folded, x)
        return chain if chain is not None and _agrees(chain, x, expected) else copied
    rounded = kind(half, "bf16", folded=True)
    return (
        rounded
        if _agrees(rounded, x, expected) and moved(rounded, copied, x, y, threat) <= MOVED
        else copied
    )


def _as_chain(net: nn.Module, x: Tensor) -> ChainSearcher | None:
    """Return the copy as a chain of layers, or None if it is none."""
    if not isinstance(net, fx.GraphModule):
        return None
    try:
        make = sparse_layer if mostly_zero(net) else dense_layer
        return ChainSearcher(chain_of(traced_modules(net), x, make))
    except NoChainError:
        return None


@cache
def _say_fp32() -> None:
    """Say once that bf16 is not used, not for each batch."""
    log.warning("attack.precision=bf16: this device does not multiply in bf16; it searches in fp32")


def fastest(net: nn.Module, device: torch.device) -> Precision:
    """Return bf16 where the processor multiplies in it and the network is wide, else fp32.

    docs/decisions.md has the measurements.
    """
    channels = [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    wide = device.type == "cuda" or (bool(channels) and sum(channels) >= WIDE * len(channels))
    return "bf16" if wide and multiplies_bf16(device) else "fp32"


def moved(rounded: Searcher, exact: Searcher, x: Tensor, y: Tensor, threat: Threat) -> float:
    """Return how far rounding moves the linearised boundary, as a mean share of the radius."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        lead = margin(exact(point), y)
    (grad,) = torch.autograd.grad(lead, point, torch.ones_like(lead))
    off = (margin(rounded.ask(x), y) - lead.detach()).abs()
    slope = grad.flatten(1).norm(p=1 if threat.norm == "linf" else 2, dim=1)
    return float((off / (slope * threat.eps).clamp_min(1e-12)).mean())


def _folded(model: nn.Module) -> nn.Module | None:
    """Fold BatchNorm and masks into the convolutions; None if the network cannot be traced."""
    with effective_network(model) as net, torch.no_grad():
        try:
            folded: nn.Module = fuse(net)
        except Exception as error:  # noqa: BLE001 - whatever a foreign forward raises when it is traced
            log.info("not folded: %s", error)
            return None
    folded.eval().requires_grad_(False)
    return folded.to(memory_format=torch.channels_last)


def _in_bf16(net: nn.Module) -> nn.Module | None:
    """Return a copy with all layers but the first and the last in bf16; None if it has too few."""
    net = copy.deepcopy(net)
    if not isinstance(net, fx.GraphModule):
        return None
    modules = dict(net.named_modules())
    layers = [
        node
        for node in net.graph.nodes
        if node.op == "call_module" and isinstance(modules[node.target], nn.Conv2d | nn.Linear)
    ]
    if len(layers) < 3:
        return None
    for node in layers[1:-1]:
        modules[node.target].to(torch.bfloat16)
    _cast(net.graph, layers[0], torch.bfloat16)
    source = layers[-1].args[0]
    with net.graph.inserting_before(layers[-1]):
        layers[-1].args = (net.graph.call_method("to", (source, torch.float32)),)
    net.recompile()
    return net


def _cast(graph: fx.Graph, node: fx.Node, dtype: torch.dtype) -> None:
    """Convert the output of ``node`` to ``dtype`` for all its users."""
    with graph.inserting_after(node):
        cast = graph.call_method("to", (node, dtype))
    node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)


@torch.no_grad()
def _agrees(copied: Searcher, x: Tensor, expected: Tensor) -> bool:
    """Return whether the copy's logits at ``x`` are near the network's."""
    try:
        off = (copied(x) - expected).abs().amax(1)
    except RuntimeError as error:  # types that do not meet
        log.info("not in %s: %s", copied.precision, error)
        return False
    return bool((off <= TRUSTED[copied.precision] * spread(expected) + 1e-6).all())
