"""Exact verification of small networks as a mixed-integer programme.

From Tjeng et al. 2019, https://arxiv.org/abs/1711.07356. Solved by HiGHS through scipy. Differs
from the paper in its bounds of the layers between: CROWN, which also proves what it can before
anything is solved.
"""

import torch
from torch import Tensor, nn

from advprune.bounds.boxes import input_region, specification
from advprune.bounds.certificate import precise
from advprune.bounds.graph import Step, trace
from advprune.bounds.linear import crown, tightened
from advprune.bounds.nonlinear_ops import Relu
from advprune.bounds.programme import Programme
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import predict
from advprune.ranges import Count, Positive, refuse_outside
from advprune.threat import Certificate, Threat

#: What the solver may be wrong by: its own tolerances are 1e-6 and 1e-7.
TOLERANCE = 1e-5


def verify_exact(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    seconds: Positive = 60.0,
    neurons: Count = 500,
) -> Certificate:
    """Prove or refute each image exactly, or abstain where the limits are reached.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of affine operations and ReLU, in
            eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball on which the class is proved, L-infinity.
        positions: places of the images in the test set, (N,) int64; not used.
        seconds: time limit for one class of one image, above 0.
        neurons: images with more ReLUs of undecided sign abstain, at least 1.

    Returns:
        One entry per image.

    Raises:
        UserError: for another norm, another operation, or limits below 1.
    """
    refuse_outside(verify_exact, seconds=seconds, neurons=neurons)
    if threat.norm != "linf":
        raise UserError(
            f"verify_exact proves for linf, and the threat is {threat.norm}: give threat=linf"
        )
    net = precise(model)
    with frozen(net), torch.no_grad():
        images = x.double()
        steps, predicted = trace(net), predict(net(images))
        if any(
            step.op is not None and not step.op.affine and not isinstance(step.op, Relu)
            for step in steps
        ):
            raise UserError(
                "verify_exact knows affine operations and ReLU; "
                "for other networks use certify_crown"
            )
        margins = crown(net, images, y, threat=threat)
        results = [
            _verify(steps, images[i : i + 1], y[i : i + 1], margins[i], threat, seconds, neurons)
            if predicted[i] == y[i]
            else False
            for i in range(len(x))
        ]
    certified = torch.tensor([result is True for result in results], device=x.device)
    abstained = torch.tensor([result is None for result in results], device=x.device)
    return Certificate(certified, certified * threat.eps, predicted, abstained, threat.norm)


def _verify(
    steps: list[Step],
    x: Tensor,
    y: Tensor,
    margins: Tensor,
    threat: Threat,
    seconds: float,
    neurons: int,
) -> bool | None:
    """Return True if one image is proved, False if refuted, None if neither within the limits."""
    rivals = [
        j
        for j in range(len(margins))
        if j != int(y) and not (margins[j] > 0 and margins[j].isfinite())
    ]
    if not rivals:
        return True
    boxes = tightened(steps, input_region(x, threat), "adaptive", 20_000)
    programme = Programme(steps, boxes)
    if programme.undecided > neurons:
        return None
    rows = specification(y, len(margins), x)[0]
    result: bool | None = True
    for j in rivals:
        row = rows[j - (j > int(y))].cpu().numpy()
        least, value = programme.minimise(row, seconds)
        if value is not None and value <= -TOLERANCE:
            return False
        result = result if least > TOLERANCE else None
    return result
