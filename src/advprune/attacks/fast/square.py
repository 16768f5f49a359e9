"""Square Attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049), in batches.

Each image has its own squares and its own count of queries. A square that changes no pixel counts
as a query, but the network does not run again on the same point.

Where few images are left, several queries of each run at once, as if each were rejected, which most
are; those after the first that is accepted are repeated. So the result is that of one query after
the other.
"""

import torch
from torch import Tensor

from advprune.attacks.fast import noise
from advprune.attacks.fast.candidates import fresh, propose
from advprune.attacks.fast.network import Searcher
from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.windows import L2Windows, LinfWindows, Windows
from advprune.logits import lead

QUERIES = 5000
FIRST_SHARE = 0.8  # of the image's pixels in the first squares, the paper's p
#: After how many queries the share is halved, for 10,000 queries; pyautoattack does not rescale it
#: to its 5,000.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Queries whose random numbers are drawn at once.
CHUNK = 500
#: Points evaluated at once where there are fewer images. A ResNet-18 on a CPU needs 5.5 ms for each
#: of 24, 9.2 for each of three and 13.6 for a single one.
AT_ONCE = 24


def share(query: Tensor) -> Tensor:
    """Return the share of pixels in the square of each row's query, (R,) float64.

    Args:
        query: number of the query, from zero, (R,) int64.
    """
    after = torch.tensor(HALVED_AFTER, device=query.device)
    return FIRST_SHARE * 0.5 ** (query[:, None] > after).sum(1).double()


class Square:
    """The random search with squares.

    Args:
        net: the copy of the network that searches.
        results: the images and what is known of them.
        seed: seed of the squares.
    """

    turns = 1

    def __init__(self, net: Searcher, results: BatchResults, *, seed: int) -> None:
        self.net, self.results, self.seed = net, results, seed
        self.windows: Windows = (LinfWindows if results.threat.norm == "linf" else L2Windows)(
            results.threat.eps
        )

    def begin(self, image: Tensor, turn: Tensor) -> dict[str, Tensor]:
        """Make rows at their random starts, stripes or tiles, which are the first query."""
        x, y = self.results.x[image], self.results.y[image]
        shares = self._shares("start", image, *self.windows.draws_at_start(x))
        state = {
            "image": image,
            "turn": turn,
            "x": x,
            "y": y,
            "best": self.windows.start(x, shares),
            "made": torch.zeros_like(image),
            "offered": fresh(len(x), x.device),
            "lead": fresh(len(x), x.device),
            "refused": torch.zeros_like(image),
        }
        state["shares"] = torch.zeros(len(x), CHUNK, self.windows.draws(x), device=x.device)
        logits = self.net.ask(state["best"])
        state["lead"] = lead(logits, y)
        propose(self.results, state, logits, state["best"], self.net.slack)
        return state

    def step(self, state: dict[str, Tensor]) -> Tensor:
        """Try one or several squares on each row, and move it where its margin grew."""
        self._draw(state)
        made, best = state["made"], state["best"]
        ahead = self._ahead(state)
        row = torch.arange(len(made), device=made.device).repeat_interleave(ahead)
        offset = torch.arange(len(row), device=made.device) - (ahead.cumsum(0) - ahead)[row]
        query = made[row] + offset
        here = best[row]
        point = self.windows.change(
            state["x"][row], here, share(query), state["shares"][row, query % CHUNK]
        )
        changed = (point != here).flatten(1).any(1).nonzero().squeeze(1)
        taken = self._query(state, point[changed], row[changed], offset[changed], ahead)
        state["made"] = made + (taken + 1).minimum(ahead)
        state["refused"] = torch.where(taken < ahead, 0, state["refused"] + ahead)
        return state["made"] == QUERIES

    def _ahead(self, state: dict[str, Tensor]) -> Tensor:
        """Return how many queries of each row run at once, (R,): one more than just failed."""
        made = state["made"]
        most = torch.minimum(CHUNK - made % CHUNK, QUERIES - made).clamp_max(
            max(AT_ONCE // len(made), 1)
        )
        return torch.minimum(most, state["refused"] + 1)

    def _query(
        self, state: dict[str, Tensor], point: Tensor, row: Tensor, offset: Tensor, ahead: Tensor
    ) -> Tensor:
        """Evaluate points, and move each row to its first that is better.

        Returns:
            How many queries of each row came before it, or ``ahead`` if there is none, (R,).
        """
        if len(point) == 0:
            return ahead
        logits = self.net.ask(point)
        ahead_by = lead(logits, state["y"][row])
        better = ahead_by > state["lead"][row]
        taken = ahead.scatter_reduce(0, row[better], offset[better], "amin")
        first = (better & (offset == taken[row])).nonzero().squeeze(1)
        if len(first):
            rows, point = row[first], point[first]
            asked = {name: state[name][rows] for name in ("image", "y", "offered")}
            propose(self.results, asked, logits[first], point, self.net.slack)
            new = {"offered": asked["offered"], "lead": ahead_by[first], "best": point}
            for name, values in new.items():
                state[name] = state[name].index_copy(0, rows, values)
        return taken

    def _draw(self, state: dict[str, Tensor]) -> None:
        """Draw random numbers for the next queries of rows that have used theirs up."""
        due = (state["made"] % CHUNK == 0).nonzero().squeeze(1)
        if len(due) == 0:
            return
        for chunk in (state["made"][due] // CHUNK).unique().tolist():
            rows = due[state["made"][due] // CHUNK == chunk]
            state["shares"][rows] = self._shares(
                str(chunk), state["image"][rows], *state["shares"].shape[1:]
            )

    def _shares(self, name: str, image: Tensor, *shape: int) -> Tensor:
        name = f"autoattack/{self.seed}/square/{name}"
        return noise.uniform(name, self.results.places_of(image), *shape).to(image.device)
