"""Time one HYDRA mask-search step, the authors' and ours: python -m benchmarks.mask_search_step

Theirs is rendered from our reading notes of their code, not copied: every layer sorts |scores| in
every forward, and a TRADES-10 step takes 24 forwards (the natural output anew in each attack step,
one forward for logging, the natural one twice in the loss). Ours ranks once per step and takes 13.
Both get one network, one batch, one noise, their counts of kept weights; their gradients for the
scores must agree.
"""

import statistics
import time
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.masks import Masks, Scores, authors_count, prunable, top_k
from advprune.pruners.hydra import Hydra
from advprune.pruners.process import Moment
from advprune.pruners.task import Task
from advprune.surgery.subnet import Subnet

KEEP, BETA, EPS, ALPHA, STEPS = 0.01, 6.0, 8 / 255, 2 / 255, 10
BATCH = 128


class SortEachTime(torch.autograd.Function):
    """Their mask: sort the whole layer, write ones over the tail; the gradient passes through."""

    @staticmethod
    def forward(ctx, scores: Tensor, keep: float) -> Tensor:
        _, order = scores.flatten().sort()
        dropped = int((1 - keep) * scores.numel())
        mask = torch.ones(scores.numel(), dtype=scores.dtype, device=scores.device)
        mask[order[:dropped]] = 0
        return mask.reshape(scores.shape)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class AuthorsConv(nn.Conv2d):
    """A convolution whose every forward finds its mask anew."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(
            x, self.weight * SortEachTime.apply(self.scores.abs(), KEEP), self.bias
        )


class AuthorsLinear(nn.Linear):
    """A linear layer whose every forward finds its mask anew."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * SortEachTime.apply(self.scores.abs(), KEEP), self.bias)


def vgg16_bn(conv: type[nn.Conv2d], linear: type[nn.Linear], width: int) -> nn.Sequential:
    """Return VGG-16-BN for 32x32 with HYDRA's head, its weights by seed.

    The first stage is ``width`` wide (64 in the paper). Running statistics do not move (momentum
    0), so that the extra logging forward does not change the attack.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inside = 3
    for stage in ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8)):
        for times in stage:
            outside = times * width
            layers += [
                conv(inside, outside, 3, padding=1, bias=False),
                nn.BatchNorm2d(outside, momentum=0.0),
                nn.ReLU(),
            ]
            inside = outside
        layers.append(nn.MaxPool2d(2) if len(layers) < 40 else nn.AdaptiveAvgPool2d(2))
    head = [
        linear(32 * width, 4 * width),
        nn.ReLU(),
        linear(4 * width, 4 * width),
        nn.ReLU(),
        linear(4 * width, 10),
    ]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def project(x_adv: Tensor, x: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x_adv, x - EPS), x + EPS).clamp(0, 1)


def divergence(logits_adv: Tensor, probabilities: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits_adv, dim=1), probabilities, reduction="sum")


def authors_step(net: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take their step up to the gradients: 24 forwards."""
    net.train()
    net(x)  # for logging
    net.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_(True)
        loss = divergence(net(x_adv), F.softmax(net(x), dim=1))
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = project(x_adv.detach() + ALPHA * grad.sign(), x)
    net.train()
    loss = F.cross_entropy(net(x), y)
    logits_adv = net(x_adv)
    (loss + BETA / len(x) * divergence(logits_adv, F.softmax(net(x), dim=1))).backward()


def our_step(subnet: Subnet, x: Tensor, y: Tensor) -> None:
    """Take our step up to the gradients: masks once, 13 forwards."""
    cast(Hydra, subnet.process).choose(Moment(0, 1, 0, 1))
    subnet.refresh()
    subnet.eval()
    with torch.no_grad():
        natural = F.softmax(subnet(x), dim=1)
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_(True)
        (grad,) = torch.autograd.grad(divergence(subnet(x_adv), natural), x_adv)
        x_adv = project(x_adv.detach() + ALPHA * grad.sign(), x)
    subnet.train()
    logits = subnet(x)
    loss = F.cross_entropy(logits, y)
    (loss + BETA / len(x) * divergence(subnet(x_adv), F.softmax(logits, dim=1))).backward()


def authors_masks(scores: Scores, ratio: float, *, within: Masks | None = None) -> Masks:
    return {
        name: top_k(score.abs(), authors_count(score.numel(), KEEP))
        for name, score in scores.items()
    }


def contestants(width: int) -> tuple[nn.Module, Subnet]:
    """Return both networks with equal weights and scaled scores; weights and biases frozen."""
    theirs, ours = (
        vgg16_bn(AuthorsConv, AuthorsLinear, width),
        vgg16_bn(nn.Conv2d, nn.Linear, width),
    )
    theirs.load_state_dict(ours.state_dict())
    task = Task(1 - KEEP, authors_masks, tuple(prunable(ours)), ratios=(1 - KEEP,))
    process = Hydra(ours, task)
    process.groups(ours)
    process.start(ours, [])
    scores, subnet = process.scores(), Subnet(ours, process=process)
    theirs.requires_grad_(False)
    for name, module in theirs.named_modules():
        if isinstance(module, AuthorsConv | AuthorsLinear):
            module.register_parameter("scores", nn.Parameter(scores[f"{name}.weight"].clone()))
        elif isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)
    return theirs, subnet


def pairs(theirs: nn.Module, subnet: Subnet) -> Iterator[tuple[Tensor, Tensor]]:
    process = cast(Hydra, subnet.process)
    for name in process.weights:
        yield (
            theirs.get_parameter(name.replace("weight", "scores")).grad,
            process.score(name).grad,
        )


def compare(
    width: int, batch: int, repeats: int, dtype: torch.dtype
) -> tuple[float, float, float, float]:
    """Return the medians of steps taken in turns.

    Returns:
        Their seconds, ours, the median ratio, and the largest relative difference of gradients.
    """
    theirs, subnet = (net.to(dtype) for net in contestants(width))
    x, y = torch.rand(batch, 3, 32, 32, dtype=dtype), torch.randint(0, 10, (batch,))
    times: list[list[float]] = []
    difference = 0.0
    for repeat in range(repeats):
        times.append([])
        for step, net in ((authors_step, theirs), (our_step, subnet)):
            net.zero_grad()
            torch.manual_seed(repeat)
            start = time.perf_counter()
            step(net, x, y)
            times[-1].append(time.perf_counter() - start)
        for a, b in pairs(theirs, subnet):
            difference = max(difference, float((a - b).abs().max() / a.abs().max()))
    seconds = [statistics.median(column) for column in zip(*times, strict=True)]
    return seconds[0], seconds[1], statistics.median(a / b for a, b in times), difference


def run() -> list[dict]:
    """Return rows of the step on VGG-16-BN at a quarter of its width and at its own."""
    *_, difference = compare(16, batch=16, repeats=1, dtype=torch.float64)
    rows = [
        {
            "what": "gradients of the scores in double precision, "
            "largest difference over a layer's largest entry",
            "against": "the authors' step, rendered",
            "bar": "<= 1e-5",
            "measured": f"{difference:.1e}",
        }
    ]
    for width, name, repeats in ((16, "VGG-16-BN of quarter width", 3), (64, "VGG-16-BN", 1)):
        theirs, ours, ratio, _ = compare(width, BATCH, repeats, torch.float32)
        setting = f"batch {BATCH}, ratio 0.99, {torch.get_num_threads()} threads"
        what = f"HYDRA search step, TRADES-10, {name}, {setting}"
        against = f"the authors' step, rendered: {theirs:.2f} s"
        rows.append(
            {
                "what": what,
                "against": against,
                "bar": ">= 2x",
                "measured": f"{ratio:.2f}x ({ours:.2f} s)",
            }
        )
    return rows


if __name__ == "__main__":
    torch.set_num_threads(2)
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
