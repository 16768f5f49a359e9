"""Interval bounds, IBP (Gowal et al. 2018, https://arxiv.org/abs/1810.12715).

The last layer is merged with the margins. Differs from the paper in cutting the box to [0, 1], and
in using the Euclidean ball up to the first layer for L2.
"""

from torch import Tensor, nn

from advprune.bounds.boxes import Interval, input_region, minimum, specification, with_label
from advprune.bounds.graph import Step, trace
from advprune.frozen import effective_network
from advprune.ranges import Share
from advprune.threat import Threat


def ibp(model: nn.Module, x: Tensor, y: Tensor, *, threat: Threat, scale: Share = 1.0) -> Tensor:
    """Bound the margins f_y - f_j from below on every image that ``threat`` allows.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); its BatchNorm and dropout in eval
            mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball, cut to [0, 1].
        scale: share of ``threat.eps``, in [0, 1].

    Returns:
        (N, K), zero at the label, differentiable. The label is proved where all others are above
        zero.

    Raises:
        UserError: for an operation that bounds do not know, a layer in train mode, or images
            outside [0, 1].
    """
    with effective_network(model) as net:
        steps = trace(net)
        boxes = propagate(steps, input_region(x, threat, scale))
        return with_label(last_layer(steps, boxes, y), y)


def logit_bounds(model: nn.Module, x: Tensor, *, threat: Threat, scale: Share = 1.0) -> Interval:
    """Return the interval of each logit, (N, K), on every image that ``threat`` allows.

    The arguments are those of ``ibp``.
    """
    with effective_network(model) as net:
        return propagate(trace(net), input_region(x, threat, scale))[-1]


def propagate(steps: list[Step], region: Interval) -> list[Interval]:
    """Return the region of each step's output, from that of the input."""
    boxes = [region]
    for step in steps[1:]:
        assert step.op is not None
        boxes.append(step.op.interval(*(boxes[i] for i in step.inputs)))
    return boxes


def last_layer(steps: list[Step], boxes: list[Interval], y: Tensor) -> Tensor:
    """Bound the margins (N, K - 1) from the region before the last operation.

    If that operation is not affine, they are bounded from the region of the logits.
    """
    logits, last = boxes[-1].lower, steps[-1]
    rows = specification(y, logits.shape[1], logits)
    if last.op is None or not last.op.affine or len(last.inputs) != 1:
        return minimum(rows, boxes[-1])
    (before,) = (boxes[i] for i in last.inputs)
    (coef,), constant = last.op.backward(rows, (before,), "adaptive")
    return minimum(coef, before) + constant
