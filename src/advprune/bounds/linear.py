"""Linear bounds, CROWN and CROWN-IBP, the last layer merged with the margins.

From Zhang et al. 2018, https://arxiv.org/abs/1811.00866, and Zhang et al. 2020,
https://arxiv.org/abs/1906.06316. Differs from the papers in cutting the box to [0, 1]; in CROWN,
each layer also keeps its interval bounds where they are tighter.
"""

import torch
from torch import Tensor, nn

from advprune.bounds.boxes import Interval, input_region, minimum, specification, with_label
from advprune.bounds.graph import Step, trace
from advprune.bounds.interval import last_layer, propagate
from advprune.bounds.nonlinear_ops import Relu
from advprune.bounds.ops import Slope
from advprune.frozen import effective_network
from advprune.ranges import Count, Share, refuse_outside
from advprune.threat import Threat


def crown_ibp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    scale: Share = 1.0,
    beta: Share = 1.0,
    slope: Slope = "adaptive",
    rows: Count | None = None,
) -> Tensor:
    """Bound the margins f_y - f_j from below by one linear pass over interval bounds.

    The result is ``beta`` times the linear bounds plus ``1 - beta`` times the interval bounds; a
    mixture of two lower bounds is one. With ``beta`` 0 nothing linear is computed.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); its BatchNorm and dropout in eval
            mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball, cut to [0, 1].
        scale: share of ``threat.eps``, in [0, 1].
        beta: share of the linear bounds, in [0, 1].
        slope: how the line below an undecided ReLU is chosen, see ``nonlinear_ops.py``.
        rows: (image, margin) pairs that go back at once, at least 1; None for all. It limits the
            memory where no gradient is needed.

    Returns:
        (N, K), zero at the label, differentiable.

    Raises:
        UserError: for an operation that bounds do not know, a layer in train mode, images outside
            [0, 1], or if ``beta`` or ``rows`` is out of range.
    """
    refuse_outside(crown_ibp, rows=rows, beta=beta)
    with effective_network(model) as net:
        steps = trace(net)
        boxes = propagate(steps, input_region(x, threat, scale))
        intervals = last_layer(steps, boxes, y) if beta < 1 else 0.0
        linear = _margins(steps, boxes, y, slope, rows) if beta > 0 else 0.0
        return with_label(torch.as_tensor(beta * linear + (1 - beta) * intervals), y)


def crown(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    scale: Share = 1.0,
    slope: Slope = "adaptive",
    rows: Count | None = 20_000,
) -> Tensor:
    """Bound the margins f_y - f_j from below by linear bounds of every layer.

    This is tighter than ``crown_ibp``, and far slower. Only neurons whose sign intervals leave
    undecided are bounded again, for the others the relaxation is exact.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); its BatchNorm and dropout in eval
            mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball, cut to [0, 1].
        scale: share of ``threat.eps``, in [0, 1].
        slope: how the line below an undecided ReLU is chosen, see ``Relu``; ``parallel`` makes
            these the symbolic intervals of MixTrain.
        rows: (image, neuron) pairs that go back at once, at least 1; None for all.

    Returns:
        (N, K), zero at the label, differentiable.

    Raises:
        UserError: for an operation that bounds do not know, a layer in train mode, images outside
            [0, 1], or if ``rows`` is out of range.
    """
    refuse_outside(crown, rows=rows)
    with effective_network(model) as net:
        steps = trace(net)
        boxes = tightened(steps, input_region(x, threat, scale), slope, rows)
        return with_label(
            torch.maximum(_margins(steps, boxes, y, slope, rows), last_layer(steps, boxes, y)), y
        )


def lower_bound(
    steps: list[Step], boxes: list[Interval], at: int, coef: Tensor, slope: Slope
) -> Tensor:
    """Bound linear functions (N, S, ...) of the output of step ``at`` from below: (N, S)."""
    pending: dict[int, Tensor] = {at: coef}
    total: Tensor | float = 0.0
    for index in range(at, 0, -1):
        if index not in pending:
            continue
        op, sources = steps[index].op, steps[index].inputs
        assert op is not None
        parts, constant = op.backward(pending.pop(index), tuple(boxes[i] for i in sources), slope)
        total = total + constant
        for source, part in zip(sources, parts, strict=True):
            pending[source] = pending[source] + part if source in pending else part
    return minimum(pending[0], boxes[0]) + total


def tightened(
    steps: list[Step], region: Interval, slope: Slope, rows: int | None
) -> list[Interval]:
    """Return the region of each step; inputs of non-linear operations improved by linear bounds."""
    boxes, nonlinear = [region], [False]
    relaxed = {
        i for step in steps[1:] if step.op is not None and not step.op.affine for i in step.inputs
    }
    for index, step in enumerate(steps[1:], start=1):
        assert step.op is not None
        boxes.append(step.op.interval(*(boxes[i] for i in step.inputs)))
        nonlinear.append(not step.op.affine or any(nonlinear[i] for i in step.inputs))
        if index in relaxed and step.op.affine and nonlinear[index]:
            relu = all(isinstance(s.op, Relu) for s in steps if index in s.inputs)
            boxes[index] = _improved(steps, boxes, index, slope, rows, relu)
    return boxes


def _improved(
    steps: list[Step], boxes: list[Interval], at: int, slope: Slope, rows: int | None, relu: bool
) -> Interval:
    """Return the region of step ``at``, its undecided neurons improved by linear bounds."""
    lower, upper = boxes[at].lower.flatten(1), boxes[at].upper.flatten(1)
    undecided = (lower < 0) & (upper > 0) if relu else torch.ones_like(lower, dtype=torch.bool)
    neurons = undecided.any(0).nonzero().squeeze(1)
    if len(neurons) == 0:
        return boxes[at]
    bounds = []
    each = len(neurons) if rows is None else max(rows // (2 * len(lower)), 1)
    for part in neurons.split(each):
        count = len(part)
        unit = torch.zeros(2 * count, lower.shape[1], dtype=lower.dtype, device=lower.device)
        unit[torch.arange(count), part] = 1.0
        unit[torch.arange(count, 2 * count), part] = -1.0
        shape = (len(lower), 2 * count, *boxes[at].lower.shape[1:])
        coef = unit.expand(len(lower), -1, -1).reshape(shape)
        bounds.append(lower_bound(steps, boxes, at, coef, slope).unflatten(1, (2, count)))
    least = torch.cat(bounds, dim=2)
    low = torch.maximum(lower[:, neurons], least[:, 0])
    high = torch.maximum(torch.minimum(upper[:, neurons], -least[:, 1]), low)
    lower, upper = lower.index_copy(1, neurons, low), upper.index_copy(1, neurons, high)
    return Interval.between(lower.view(boxes[at].lower.shape), upper.view(boxes[at].lower.shape))


def _margins(
    steps: list[Step], boxes: list[Interval], y: Tensor, slope: Slope, rows: int | None
) -> Tensor:
    logits = boxes[-1].lower
    coef = specification(y, logits.shape[1], logits)
    each = coef.shape[1] if rows is None else max(rows // max(len(y), 1), 1)
    return torch.cat(
        [lower_bound(steps, boxes, len(steps) - 1, part, slope) for part in coef.split(each, 1)], 1
    )
