"""Exact verification of small networks as a mixed-integer programme (Tjeng et al. 2019, https://arxiv.org/abs/1711.07356).

Solved by HiGHS through scipy. Differs from the paper in its bounds of the layers between: CROWN,
which also proves what it can before anything is solved.
"""

from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, vstack
from torch import Tensor, nn

from advprune.bounds.boxes import Interval, input_region, specification
from advprune.bounds.certificate import Certificate, precise
from advprune.bounds.graph import Step, trace
from advprune.bounds.linear import crown, tightened
from advprune.bounds.ops import Relu
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.prediction import predict
from advprune.ranges import Count, Positive, refuse_outside
from advprune.threat import Threat

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
    """Prove or refute each image; what the limits leave open abstains.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of affine operations and ReLU, in
            eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: L-infinity.
        positions: of the signature; nothing here depends on it.
        seconds: for one class of one image, at most.
        neurons: images with more ReLUs of open sign are not tried.

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
                "verify_exact knows affine operations and ReLU; for other networks use certify_crown"
            )
        margins = crown(net, images, y, threat=threat)
        verdicts = [
            _verdict(steps, images[i : i + 1], y[i : i + 1], margins[i], threat, seconds, neurons)
            if predicted[i] == y[i]
            else False
            for i in range(len(x))
        ]
    certified = torch.tensor([v is True for v in verdicts], device=x.device)
    abstained = torch.tensor([v is None for v in verdicts], device=x.device)
    return Certificate(certified, certified * threat.eps, predicted, abstained, threat.norm)


def _verdict(
    steps: list[Step],
    x: Tensor,
    y: Tensor,
    margins: Tensor,
    threat: Threat,
    seconds: float,
    neurons: int,
) -> bool | None:
    """True: proved; False: refuted; None: not within the limits."""
    rivals = [
        j
        for j in range(len(margins))
        if j != int(y) and not (margins[j] > 0 and margins[j].isfinite())
    ]
    if not rivals:
        return True
    boxes = tightened(steps, input_region(x, threat), "adaptive", 20_000)
    programme = _Programme(steps, boxes)
    if programme.open > neurons:
        return None
    rows = specification(y, len(margins), x)[0]
    verdict: bool | None = True
    for j in rivals:
        row = rows[j - (j > int(y))].cpu().numpy()
        least, value = programme.minimise(row, seconds)
        if value is not None and value <= -TOLERANCE:
            return False
        verdict = verdict if least > TOLERANCE else None
    return verdict


class _Programme:
    """The network on one image's region: variables are pixels, outputs of open ReLUs, a bit for each."""

    def __init__(self, steps: list[Step], boxes: list[Interval]) -> None:
        low, high = (end.flatten().cpu().numpy() for end in (boxes[0].lower, boxes[0].upper))
        self.low, self.high, self.whole, self.open = low, high, np.zeros(len(low)), 0
        self.rows: list[Any] = []
        self.ends: list[np.ndarray] = []
        values = [(csr_array(np.eye(len(low))), np.zeros(len(low)))]
        for step, box in zip(steps[1:], boxes[1:], strict=True):
            inputs = [values[i] for i in step.inputs]
            before = [boxes[i] for i in step.inputs]
            values.append(
                self._relu(inputs[0], before[0])
                if isinstance(step.op, Relu)
                else _affine(step.op, inputs, before, box)
            )
        self.logits = values[-1]

    def _relu(self, value: tuple[Any, np.ndarray], box: Interval) -> tuple[Any, np.ndarray]:
        matrix, constant = value
        low, high = (end.flatten().cpu().numpy() for end in (box.lower, box.upper))
        open_ = np.flatnonzero((low < 0) & (high > 0))
        count, first = len(open_), len(self.low)
        self.low = np.concatenate([self.low, np.zeros(2 * count)])
        self.high = np.concatenate([self.high, high[open_], np.ones(count)])
        self.whole = np.concatenate([self.whole, np.zeros(count), np.ones(count)])
        self.open += count
        some, offset, eye = _wide(matrix, first)[open_], constant[open_], csr_array(np.eye(count))
        down, up = csr_array(np.diag(low[open_])), csr_array(np.diag(high[open_]))
        # out >= in;  out <= in - low * (1 - bit);  out <= high * bit
        self.rows += [
            hstack([-some, eye, 0 * eye]),
            hstack([some, -eye, down]),
            hstack([0 * some, -eye, up]),
        ]
        self.ends += [offset, low[open_] - offset, np.zeros(count)]
        active = low >= 0
        kept = csr_array(np.diag(active.astype(float))) @ _wide(matrix, len(self.low))
        place = csr_array(
            (np.ones(count), (open_, first + np.arange(count))), shape=(len(low), len(self.low))
        )
        return kept + place, constant * active

    def minimise(self, row: np.ndarray, seconds: float) -> tuple[float, float | None]:
        """A proved lower bound of ``row @ logits``, and the value at the best point found, if any."""
        matrix, constant = self.logits
        goal = np.asarray(row @ _wide(matrix, len(self.low)).toarray()).ravel()
        limits = []
        if self.rows:
            stacked = vstack([_wide(part, len(self.low)) for part in self.rows])
            limits = [LinearConstraint(stacked, np.concatenate(self.ends), np.inf)]
        found = milp(
            goal,
            integrality=self.whole,
            bounds=Bounds(self.low, self.high),
            constraints=limits,
            options={"time_limit": seconds},
        )
        shift = float(row @ constant)
        bound = -np.inf if found.mip_dual_bound is None else found.mip_dual_bound + shift
        return bound, None if found.x is None else found.fun + shift


def _wide(matrix: Any, columns: int) -> Any:
    """With zero columns for the variables that came later."""
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def _affine(
    op: Any, inputs: list[Any], before: list[Interval], box: Interval
) -> tuple[Any, np.ndarray]:
    """The output's coefficients from the inputs': the operation's matrix, read off its transpose."""
    size = box.lower.numel()
    unit = torch.eye(size, dtype=box.lower.dtype, device=box.lower.device).view(
        1, size, *box.lower.shape[1:]
    )
    parts, constant = op.backward(unit, tuple(before), "adaptive")
    columns = max(matrix.shape[1] for matrix, _ in inputs)
    total = csr_array((size, columns))
    offset = np.broadcast_to(torch.as_tensor(constant).flatten().cpu().numpy(), (size,)).copy()
    for part, (matrix, shift) in zip(parts, inputs, strict=True):
        rows = part.flatten(2)[0].cpu().numpy()
        total = total + csr_array(rows) @ _wide(matrix, columns)
        offset += rows @ shift
    return total, offset
