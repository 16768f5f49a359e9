"""Write a network of ReLUs as a mixed-integer programme, and solve it."""

from typing import TypeAlias

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, hstack, vstack

from advprune.bounds.boxes import Interval
from advprune.bounds.graph import Step
from advprune.bounds.nonlinear_ops import Relu
from advprune.bounds.ops import Op

#: Values as an affine function of the variables: matrix (values, variables), constant (values,).
Affine: TypeAlias = tuple[csr_array, np.ndarray]


class Programme:
    """The network on one image's region as constraints.

    Variables are the pixels, and for each ReLU of undecided sign its output and a bit.

    Args:
        steps: the network's operations.
        boxes: the region of each operation's output.
    """

    def __init__(self, steps: list[Step], boxes: list[Interval]) -> None:
        low, high = (end.flatten().cpu().numpy() for end in (boxes[0].lower, boxes[0].upper))
        self.low, self.high, self.integral, self.undecided = low, high, np.zeros(len(low)), 0
        self.rows: list[csr_array] = []
        self.ends: list[np.ndarray] = []
        values = [(csr_array(np.eye(len(low))), np.zeros(len(low)))]
        for step, box in zip(steps[1:], boxes[1:], strict=True):
            inputs = [values[i] for i in step.inputs]
            before = [boxes[i] for i in step.inputs]
            assert step.op is not None
            values.append(
                self._relu(inputs[0], before[0])
                if isinstance(step.op, Relu)
                else _affine(step.op, inputs, before, box)
            )
        self.logits = values[-1]

    def _relu(self, value: Affine, box: Interval) -> Affine:
        """Add the constraints of a layer of ReLUs, and return its outputs."""
        matrix, constant = value
        low, high = (end.flatten().cpu().numpy() for end in (box.lower, box.upper))
        undecided = np.flatnonzero((low < 0) & (high > 0))
        count, first = len(undecided), len(self.low)
        self.low = np.concatenate([self.low, np.zeros(2 * count)])
        self.high = np.concatenate([self.high, high[undecided], np.ones(count)])
        self.integral = np.concatenate([self.integral, np.zeros(count), np.ones(count)])
        self.undecided += count
        inputs, offset = _widen(matrix, first)[undecided], constant[undecided]
        eye = csr_array(np.eye(count))
        down, up = csr_array(np.diag(low[undecided])), csr_array(np.diag(high[undecided]))
        # out >= in;  out <= in - low * (1 - bit);  out <= high * bit
        self.rows += [
            hstack([-inputs, eye, 0 * eye]),
            hstack([inputs, -eye, down]),
            hstack([0 * inputs, -eye, up]),
        ]
        self.ends += [offset, low[undecided] - offset, np.zeros(count)]
        active = low >= 0
        unchanged = csr_array(np.diag(active.astype(float))) @ _widen(matrix, len(self.low))
        outputs = csr_array(
            (np.ones(count), (undecided, first + np.arange(count))), shape=(len(low), len(self.low))
        )
        return unchanged + outputs, constant * active

    def minimise(self, row: np.ndarray, seconds: float) -> tuple[float, float | None]:
        """Return a proved lower bound of ``row @ logits``, and the best value found, if any."""
        matrix, constant = self.logits
        goal = np.asarray(row @ _widen(matrix, len(self.low)).toarray()).ravel()
        limits = []
        if self.rows:
            stacked = vstack([_widen(part, len(self.low)) for part in self.rows])
            limits = [LinearConstraint(stacked, np.concatenate(self.ends), np.inf)]
        solution = milp(
            goal,
            integrality=self.integral,
            bounds=Bounds(self.low, self.high),
            constraints=limits,
            options={"time_limit": seconds},
        )
        shift = float(row @ constant)
        dual = solution.mip_dual_bound
        bound = -np.inf if dual is None else dual + shift
        return bound, None if solution.x is None else solution.fun + shift


def _widen(matrix: csr_array, columns: int) -> csr_array:
    """Add zero columns for the variables that came later."""
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def _affine(op: Op, inputs: list[Affine], before: list[Interval], box: Interval) -> Affine:
    """Compose an affine operation with its inputs; its matrix is read off its transpose."""
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
        total = total + csr_array(rows) @ _widen(matrix, columns)
        offset += rows @ shift
    return total, offset
