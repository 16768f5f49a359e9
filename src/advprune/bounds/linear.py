"""Linear bounds: CROWN (Zhang et al. 2018, https://arxiv.org/abs/1811.00866) and CROWN-IBP (Zhang et al. 2020,
https://arxiv.org/abs/1906.06316), the last layer merged with the margins.

Differs from the papers in cutting the box to [0, 1]; in CROWN, each layer also keeps what intervals
know about it.
"""

import torch
from torch import Tensor, nn

from advprune.bounds.boxes import Interval, input_region, minimum, specification, with_label
from advprune.bounds.graph import Step, trace
from advprune.bounds.interval import last_layer, propagate
from advprune.bounds.ops import Relu, Slope
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
    """``beta`` times the linear bounds plus ``1 - beta`` times the interval bounds of the margins f_y - f_j.

    Regions of the layers between are intervals; one pass goes back from the margins to the pixels.
    A mixture of two lower bounds is one. With beta 0 nothing linear is computed.

    Args:
        model, x, y, threat, scale: see ``interval.ibp``.
        beta: in [0, 1].
        slope: of the line below an undecided ReLU.
        rows: (image, margin) pairs that go back at once, at most; null for all. The memory is
            bounded by it where no gradient is needed.

    Returns:
        (N, K), zero at the label. Differentiable.

    Raises:
        UserError: see ``interval.ibp``; or if ``beta`` or ``rows`` is out of range.
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
    """Linear bounds of the margins, the regions of the layers between from linear bounds too: tighter, and far slower.

    Only neurons whose sign intervals leave open are bounded again, for the others the relaxation is
    exact.

    Args:
        model, x, y, threat, scale: see ``interval.ibp``.
        slope: of the line below an undecided ReLU; ``parallel`` makes these the symbolic intervals
            of MixTrain.
        rows: (image, neuron) pairs that go back at once, see ``crown_ibp``.

    Returns:
        (N, K), zero at the label. Differentiable.
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
    """What linear functions (N, S, ...) of the output of step ``at`` are at least, (N, S)."""
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
    """The region of each step, those that feed a non-linear operation improved by linear bounds."""
    boxes, bent = [region], [False]
    wanted = {
        i for step in steps[1:] if step.op is not None and not step.op.affine for i in step.inputs
    }
    for index, step in enumerate(steps[1:], start=1):
        assert step.op is not None
        boxes.append(step.op.interval(*(boxes[i] for i in step.inputs)))
        bent.append(not step.op.affine or any(bent[i] for i in step.inputs))
        if index in wanted and step.op.affine and bent[index]:
            relu = all(isinstance(s.op, Relu) for s in steps if index in s.inputs)
            boxes[index] = _improved(steps, boxes, index, slope, rows, relu)
    return boxes


def _improved(
    steps: list[Step], boxes: list[Interval], at: int, slope: Slope, rows: int | None, relu: bool
) -> Interval:
    lower, upper = boxes[at].lower.flatten(1), boxes[at].upper.flatten(1)
    open_ = (lower < 0) & (upper > 0) if relu else torch.ones_like(lower, dtype=torch.bool)
    neurons = open_.any(0).nonzero().squeeze(1)
    if len(neurons) == 0:
        return boxes[at]
    found = []
    each = len(neurons) if rows is None else max(rows // (2 * len(lower)), 1)
    for some in neurons.split(each):
        unit = torch.zeros(2 * len(some), lower.shape[1], dtype=lower.dtype, device=lower.device)
        unit[torch.arange(len(some)), some], unit[torch.arange(len(some), 2 * len(some)), some] = (
            1.0,
            -1.0,
        )
        coef = unit.expand(len(lower), -1, -1).reshape(
            len(lower), 2 * len(some), *boxes[at].lower.shape[1:]
        )
        found.append(lower_bound(steps, boxes, at, coef, slope).unflatten(1, (2, len(some))))
    least = torch.cat(found, dim=2)
    low = torch.maximum(lower[:, neurons], least[:, 0])
    high = torch.maximum(torch.minimum(upper[:, neurons], -least[:, 1]), low)
    shape = boxes[at].lower.shape
    lower, upper = lower.index_copy(1, neurons, low), upper.index_copy(1, neurons, high)
    return Interval.between(lower.view(shape), upper.view(shape))


def _margins(
    steps: list[Step], boxes: list[Interval], y: Tensor, slope: Slope, rows: int | None
) -> Tensor:
    logits = boxes[-1].lower
    coef = specification(y, logits.shape[1], logits)
    each = coef.shape[1] if rows is None else max(rows // max(len(y), 1), 1)
    return torch.cat(
        [lower_bound(steps, boxes, len(steps) - 1, some, slope) for some in coef.split(each, 1)], 1
    )
