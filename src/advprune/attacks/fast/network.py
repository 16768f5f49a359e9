"""The network that searches: a frozen copy with BatchNorm folded, channels last, in bfloat16 where that is faster.

It only proposes. What counts is what the plain network says in float32 about the points it
proposes.
"""

import copy
import logging
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from advprune.attacks.fast.row_ops import spread
from advprune.frozen import effective_network
from advprune.losses import margin
from advprune.threat import Threat

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
#: How far a logit of the copy may be off, as a share of the spread of the image's logits, for it to
#: be used at all.
TRUSTED = {"fp32": 1e-3, "bf16": 0.05}
#: By how much of the radius bf16 may move the boundary, the mean over the images: what is near
#: enough for a verdict.
MOVED = 0.003
#: Points whose lead over the best wrong class is below this share of the spread are shown to the
#: plain network.
SLACK = {"fp32": 1e-4, "bf16": 1 / 64}
#: Mean output channels of the convolutions from which on a CPU is faster in bf16; narrower ones pay
#: more for casts.
WIDE = 64
log = logging.getLogger(__name__)


class Searcher(nn.Module):
    """The copy, or the network itself where it has none.

    Args:
        net: pixels (N, C, H, W) -> logits (N, K).
        precision: of its convolutions.
        folded: whether it is a folded copy.
    """

    def __init__(self, net: nn.Module, precision: Precision, *, folded: bool) -> None:
        super().__init__()
        self.net, self.precision, self.folded = net, precision, folded
        self.slack = SLACK[precision]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) pixels in [0, 1] -> (N, K) logits, float32."""
        if self.folded:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.net(x).float()

    def ask(self, x: Tensor) -> Tensor:
        """The same without a graph; a foreign network may keep tensors, so it sees no inference mode."""
        with torch.inference_mode(self.folded), torch.no_grad():
            logits = self(x)
        return logits.clone()


def searcher(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    expected: Tensor,
    threat: Threat,
    precision: Precision | None = None,
) -> Searcher:
    """The fastest copy of ``model`` that answers as it does on ``x``; the model itself if it cannot be copied.

    Args:
        model: frozen, in eval mode; left as found.
        x, y: some images (N, C, H, W) and labels (N,) to compare on.
        expected: the model's logits at them (N, K).
        threat: the ball: bf16 is not used where its rounding counts beside the radius.
        precision: what to search in; None for what the device is fast at.
    """
    plain = Searcher(model, "fp32", folded=False)
    folded = _folded(model) if len(x) else None
    if folded is None:
        return plain
    copied = Searcher(folded, "fp32", folded=True)
    if not _agrees(copied, x, expected):
        log.info("the network is searched unfolded and in fp32: its folded copy answers otherwise")
        return plain
    half = _in_bf16(folded) if (precision or fastest(folded, x.device)) == "bf16" else None
    if half is None:
        return copied
    rounded = Searcher(half, "bf16", folded=True)
    return (
        rounded
        if _agrees(rounded, x, expected) and moved(rounded, copied, x, y, threat) <= MOVED
        else copied
    )


def fastest(net: nn.Module, device: torch.device) -> Precision:
    """bf16 where the processor multiplies in it and the network is wide; docs/decisions.md has the figures."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    channels = [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    wide = bool(channels) and sum(channels) >= WIDE * len(channels)
    return "bf16" if wide and (able.get("avx512_bf16") or able.get("amx_bf16")) else "fp32"


def moved(rounded: Searcher, exact: Searcher, x: Tensor, y: Tensor, threat: Threat) -> float:
    """How far rounding moves the linearised boundary, as a share of the radius: the mean over the images."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        lead = margin(exact(point), y)
    (grad,) = torch.autograd.grad(lead, point, torch.ones_like(lead))
    off = (margin(rounded.ask(x), y) - lead.detach()).abs()
    slope = grad.flatten(1).norm(p=1 if threat.norm == "linf" else 2, dim=1)
    return float((off / (slope * threat.eps).clamp_min(1e-12)).mean())


def _folded(model: nn.Module) -> nn.Module | None:
    """BatchNorm folded into the convolution before it, masks into weights; None if the network cannot be traced."""
    with effective_network(model) as net, torch.no_grad():
        try:
            folded: nn.Module = fuse(net)
        except Exception as error:  # noqa: BLE001 - whatever a foreign forward raises when it is traced
            log.info("not folded: %s", error)
            return None
    folded.eval().requires_grad_(False)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _in_bf16(net: nn.Module) -> nn.Module | None:
    """A copy whose layers between the first and the last are in bf16; pixels and logits stay float32."""
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
    """Whoever uses what ``node`` gives gets it as ``dtype``."""
    with graph.inserting_after(node):
        cast = graph.call_method("to", (node, dtype))
    node.replace_all_uses_with(cast, delete_user_cb=lambda user: user is not cast)


@torch.no_grad()
def _agrees(copied: Searcher, x: Tensor, expected: Tensor) -> bool:
    """Whether the copy says what the network says."""
    try:
        off = (copied(x) - expected).abs().amax(1)
    except RuntimeError as error:  # types that do not meet
        log.info("not in %s: %s", copied.precision, error)
        return False
    return bool((off <= TRUSTED[copied.precision] * spread(expected) + 1e-6).all())
