"""The network that searches: it only proposes points.

What counts is the plain network's output on them in float32.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from advprune.attacks.fast.chain import Chain
from advprune.errors import UserError

Precision = Literal["fp32", "bf16"]
#: Turns a gradient of the logits (N, K) into one of the pixels (N, C, H, W).
Pull = Callable[[Tensor], Tensor]
#: The plain network checks points whose lead over the best wrong class is below this share of the
#: spread.
SLACK = {"fp32": 1e-4, "bf16": 1 / 64}
#: Rows searched at once by a chain where there are fewer images: those of several targets.
CHAIN_ROWS = 512


class Searcher(nn.Module):
    """The copy that searches, or the network itself where it cannot be copied.

    Args:
        net: pixels (N, C, H, W) -> logits (N, K).
        precision: precision of its convolutions.
        folded: whether it is a copy with BatchNorm folded.
    """

    def __init__(self, net: nn.Module, precision: Precision, *, folded: bool) -> None:
        super().__init__()
        self.net, self.precision, self.folded = net, precision, folded
        self.slack, self.rows = SLACK[precision], 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K), float32, of pixels (N, C, H, W) in [0, 1]."""
        if self.folded:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.net(x).float()

    def record(self, x: Tensor) -> tuple[Tensor, Pull]:
        """Return the logits (N, K), and what turns a gradient of them into one of the pixels.

        Raises:
            UserError: for a network without gradients.
        """
        point = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self(point)
        if not logits.requires_grad:
            raise UserError(
                "autoattack: the output has no gradient (int8 model? inference mode?); "
                "use attack=square"
            )
        return logits.detach(), lambda grad: torch.autograd.grad(logits, point, grad)[0]

    def ask(self, x: Tensor) -> Tensor:
        """Return the logits without a graph.

        A network that is not a copy may keep tensors, so it does not run in inference mode.
        """
        with torch.inference_mode(self.folded), torch.no_grad():
            logits = self(x)
        return logits.clone()


class ChainSearcher(Searcher):
    """The copy of a chain of layers, which needs no autograd.

    Args:
        net: the chain.
    """

    def __init__(self, net: Chain) -> None:
        super().__init__(net, "fp32", folded=True)
        self.chain, self.rows = net, CHAIN_ROWS

    @torch.no_grad()
    def record(self, x: Tensor) -> tuple[Tensor, Pull]:
        """Return the logits (N, K), and what turns a gradient of them into one of the pixels."""
        seen = self.chain.record(x.contiguous(memory_format=torch.channels_last))
        return seen[-1], lambda grad: self.chain.pull(seen, grad)
