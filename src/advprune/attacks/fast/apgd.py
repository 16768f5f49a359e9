"""Auto-PGD (Croce and Hein 2020, https://arxiv.org/abs/2003.01690, algorithm 1).

Runs many images and turns at once. Differs from the paper as pyautoattack does: a step's first
comparison of losses is with zero; random starts reach the ball's surface.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from advprune.attacks.fast import noise
from advprune.attacks.fast.candidates import fresh, propose
from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.row_ops import pick, put, unit, wide
from advprune.attacks.fast.searcher import Searcher
from advprune.threat import Threat

STEPS = 100
MOMENTUM = 0.75  # share of the new step, the paper's alpha
ENOUGH = 0.75  # share of steps that must improve for the step size to stay, the paper's rho
#: Steps to the first check of the step size, what each next period is shorter by, the shortest.
FIRST, SHORTER, SHORTEST = (int(share * STEPS) for share in (0.22, 0.03, 0.06))

#: (logits (R, K), labels (R,), targets (R,)) -> the loss to climb, (R,).
Climbed = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy at the right label, (R,)."""
    return F.cross_entropy(logits, y, reduction="none")


def dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the difference of logits ratio, the paper's eq. 6, (R,)."""
    top = logits.topk(3, dim=1).values
    rival = torch.where(logits.argmax(1) == y, top[:, 1], top[:, 0])
    return -(pick(logits, y) - rival) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the difference of logits ratio towards a target, the paper's eq. 7, (R,)."""
    top = logits.topk(4, dim=1).values
    return -(pick(logits, y) - pick(logits, target)) / (
        top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + 1e-12
    )


class APGD:
    """The search by gradient steps with momentum and an adaptive step size.

    Args:
        name: name of the part, which decides its random numbers.
        net: the copy of the network that searches.
        results: the images and what is known of them.
        loss: the loss to climb.
        turns: number of restarts, or of targets, the best wrong class first.
        seed: seed of the random starts.
    """

    def __init__(
        self,
        name: str,
        net: Searcher,
        results: BatchResults,
        loss: Climbed,
        *,
        turns: int,
        seed: int,
    ) -> None:
        self.name, self.net, self.results = name, net, results
        self.loss, self.turns, self.seed = loss, turns, seed
        self.order = results.clean_logits.argsort(1, descending=True)

    def begin(self, image: Tensor, turn: Tensor) -> dict[str, Tensor]:
        """Make rows at their random starts."""
        x, threat = self.results.x[image], self.results.threat
        start = (x + threat.eps * unit(self._noise(image, turn, x), threat.norm)).clamp(0, 1)
        rows, zeros = len(x), torch.zeros(len(x), device=x.device)
        return {
            "image": image,
            "turn": turn,
            "x": x,
            "y": self.results.y[image],
            "target": self.order[image, (turn + 1).clamp_max(self.order.shape[1] - 1)],
            "point": start,
            "before": start,
            "best": start,
            "best_grad": torch.zeros_like(x),
            "loss": zeros - torch.inf,
            "last_loss": zeros,
            "checked_loss": zeros,
            "offered": fresh(rows, x.device),
            "step": zeros + 2 * threat.eps,
            "made": zeros.long(),
            "since": zeros.long(),
            "period": zeros.long() + FIRST,
            "rises": zeros.long(),
            "halved": torch.ones(rows, dtype=torch.bool, device=x.device),
        }

    def step(self, state: dict[str, Tensor]) -> Tensor:
        """Evaluate the loss at the rows' points, and move each by one step."""
        point = state["point"]
        logits, pull = self.net.record(point)
        propose(self.results, state, logits, point, self.net.slack)
        done = (state["made"] == STEPS) | ~self.results.still_right[state["image"]]
        if bool(done.all()):
            return done  # no gradient is wanted any more
        value, slope = self._climb(state, logits)
        grad, first = pull(slope), state["made"] == 0
        put(state, ~first & (value > state["last_loss"]), rises=state["rises"] + 1)
        state["last_loss"] = torch.where(first, 0.0, value)
        put(state, value > state["loss"], best=state["point"], best_grad=grad, loss=value)
        put(state, first, checked_loss=value)
        state["since"] = torch.where(first, 0, state["since"] + 1)
        grad = adapt_step_size(state, grad)
        move(state, grad, self.results.threat)
        return done

    def _climb(self, state: dict[str, Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss (R,) at logits (R, K), and its gradient by them."""
        with torch.enable_grad():
            leaf = logits.requires_grad_(True)
            value = self.loss(leaf, state["y"], state["target"])
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), slope

    def _noise(self, image: Tensor, turn: Tensor, x: Tensor) -> Tensor:
        """Draw the start of each row, by its image's place and its turn."""
        out = torch.empty(x.shape)
        for value in turn.unique().tolist():
            rows = (turn == value).nonzero().squeeze(1)
            places = self.results.places_of(image[rows])
            name = f"autoattack/{self.seed}/{self.name}/{value}"
            if self.results.threat.norm == "linf":
                drawn = 2 * noise.uniform(name, places, *x.shape[1:]) - 1
            else:
                drawn = noise.normal(name, places, *x.shape[1:])
            out[rows.cpu()] = drawn
        return out.to(x.device)


def adapt_step_size(state: dict[str, Tensor], grad: Tensor) -> Tensor:
    """Halve the step of rows whose loss rose too seldom, and send them back to their best point.

    Returns:
        The gradient at each row's point.
    """
    due = state["since"] == state["period"]
    seldom = state["rises"] <= ENOUGH * state["period"]
    stuck = ~state["halved"] & (state["checked_loss"] >= state["loss"])
    back = due & (seldom | stuck)
    put(state, back, step=state["step"] / 2, point=state["best"])
    put(
        state,
        due,
        halved=back,
        checked_loss=state["loss"],
        since=torch.zeros_like(state["since"]),
        rises=torch.zeros_like(state["rises"]),
        period=(state["period"] - SHORTER).clamp_min(SHORTEST),
    )
    return torch.where(wide(back), state["best_grad"], grad)


def move(state: dict[str, Tensor], grad: Tensor, threat: Threat) -> None:
    """Take a step along the gradient, plus a share of the last step, and project."""
    x, point = state["x"], state["point"]
    direction = grad.sign() if threat.norm == "linf" else unit(grad, "l2")
    ahead = threat.project(point + wide(state["step"]) * direction, x)
    share = wide(torch.where(state["made"] == 0, 1.0, MOMENTUM))
    ahead = threat.project(
        point + (ahead - point) * share + (point - state["before"]) * (1 - share), x
    )
    state["before"], state["point"], state["made"] = point, ahead, state["made"] + 1
