"""Compare one TRADES-10 training step with HYDRA's: python -m benchmarks.trades_step

The literal step is that of the authors' trainer for adversarial training: a train-mode forward to
log the accuracy, ten attack steps of two eval-mode forwards each (the natural prediction is
recomputed every time), three train-mode forwards for the loss: 24 forwards, and in each of them
every masked layer sorts its scores anew. Ours makes 13 forwards and one mask. The second row leaves
the masks out on both sides. There the arithmetic bounds the ratio: 24 forward and 13 backward
passes of the convolutions against 13 and 12, so near 1.5 where a backward costs what a forward
costs.

BatchNorm's running statistics move 4 times against 2. Here they are held still (momentum 0), which
costs the same and makes the two gradients equal. The net has fewer weights to sort per
multiplication than the authors' VGG-16 at batch 128, so the masks weigh less here than there.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.objectives.trades import trades
from advprune.threat import Linf
from benchmarks._turns import in_turns

EPS, STEP, BETA, KEEP = 8 / 255, 2 / 255, 6.0, 0.1
OURS = partial(
    trades,
    progress=0.0,
    beta=BETA,
    attack=partial(pgd, threat=Linf(EPS), steps=10, rel_step=STEP / EPS, loss=kl, start="gaussian"),
)


def sorted_mask(scores: Tensor) -> Tensor:
    """1 for the ``KEEP`` share of largest scores of the layer, found by sorting all of them."""
    mask, order = torch.zeros_like(scores), scores.flatten().sort()[1]
    mask.view(-1)[order[int((1 - KEEP) * len(order)) :]] = 1
    return mask


class SortingConv(nn.Conv2d):
    """A convolution that finds its mask anew in every forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(
            x, self.weight * sorted_mask(self.weight.detach().abs()), self.bias
        )


def literal(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take the authors' step, up to the gradients of the weights."""
    model.train()
    logged = model(x)  # its graph stays alive until the step is over
    (logged.argmax(1) == y).float().mean().item()
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(10):
        x_adv.requires_grad_()
        divergence = F.kl_div(
            F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum"
        )
        grad = torch.autograd.grad(divergence, [x_adv])[0]
        x_adv = x_adv.detach() + STEP * grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    model.zero_grad()
    natural = F.cross_entropy(model(x), y)
    robust = F.kl_div(
        F.log_softmax(model(x_adv), 1), F.softmax(model(x), 1), reduction="sum"
    ) / len(x)
    (natural + BETA * robust).backward()


def ours(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take our step without masks, up to the gradients of the weights."""
    model.zero_grad()
    OURS(model, x, y).backward()


def ours_masked(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take our step with the mask found once: weights masked before, gradients after."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    masks = [sorted_mask(weight.detach().abs()) for weight in weights]
    for weight, mask in zip(weights, masks, strict=True):
        weight.data.mul_(mask)
    ours(model, x, y)
    for weight, mask in zip(weights, masks, strict=True):
        assert weight.grad is not None
        weight.grad.mul_(mask)


def network(conv: type[nn.Conv2d], width: int = 64) -> nn.Sequential:
    """Return three convolutions with BatchNorm; the weights do not depend on ``conv``."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out, stride in (
        (3, width, 1),
        (width, 2 * width, 2),
        (2 * width, 2 * width, 2),
    ):
        layers += [
            conv(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out, momentum=0.0),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def images(count: int) -> tuple[Tensor, Tensor]:
    """Return pixels off 0 and 1, where the literal start leaves [0, 1] for a step, unlike ours."""
    return 0.1 + 0.8 * torch.rand(count, 3, 32, 32), torch.randint(10, (count,))


Step = Callable[[nn.Module, Tensor, Tensor], None]


def ratio(theirs: tuple[nn.Module, Step], mine: tuple[nn.Module, Step], rounds: int) -> float:
    """Return the median time of one over the median time of the other, taken in turns."""
    x, y = images(16)
    calls = {
        name: partial(step, model, x, y)
        for name, (model, step) in (("theirs", theirs), ("mine", mine))
    }
    seconds = in_turns(calls, rounds)
    return statistics.median(seconds["theirs"]) / statistics.median(seconds["mine"])


def gradient_gap(conv: type[nn.Conv2d], step: Step) -> float:
    """Return the largest difference of both steps' gradients over the largest of them (float64)."""
    theirs, mine = network(conv, width=8).double(), network(nn.Conv2d, width=8).double()
    x, y = images(4)
    for model, run_step in ((theirs, literal), (mine, step)):
        torch.manual_seed(1)
        run_step(model, x.double(), y)
    pairs = [(a.grad, b.grad) for a, b in zip(theirs.parameters(), mine.parameters(), strict=True)]
    largest = max(a.abs().max().item() for a, _ in pairs if a is not None)
    return (
        max((a - b).abs().max().item() for a, b in pairs if a is not None and b is not None)
        / largest
    )


def run(rounds: int = 7) -> list[dict[str, Any]]:
    """Return one row for each claim: times faster, or a relative gap."""
    torch.set_num_threads(2)
    masked = ratio((network(SortingConv), literal), (network(nn.Conv2d), ours_masked), rounds)
    plain = ratio((network(nn.Conv2d), literal), (network(nn.Conv2d), ours), rounds)
    gap = max(gradient_gap(SortingConv, ours_masked), gradient_gap(nn.Conv2d, ours))
    authors = "HYDRA's step, rendered literally"
    return [
        {
            "what": "TRADES-10 step, masked layers",
            "against": authors,
            "bar": ">= 1.7",
            "measured": masked,
        },
        {
            "what": "TRADES-10 step, no masks",
            "against": authors,
            "bar": "none, about 1.5 at best",
            "measured": plain,
        },
        {"what": "weight gradients of both", "against": authors, "bar": "<= 1e-5", "measured": gap},
    ]


if __name__ == "__main__":
    for row in run():
        print(
            f"{row['what']:32} {row['measured']:10.3g}   bar {row['bar']}   "
            f"against {row['against']}"
        )
