"""Square Attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049), in batches.

Each image has its own squares and its own count of queries. A square counts as a query, but the
network does not run again on a point that it refused: one that changes no pixel, or a square that
was tried since the image's last move. Small images have few squares, so most of their 5,000 queries
are such.

Where few images are left, several queries of each run at once, as if each were rejected, which most
are; those after the first that is accepted are repeated. So the result is that of one query after
the other.
"""

import torch
from torch import Tensor

from advprune.attacks.fast import noise
from advprune.attacks.fast.candidates import fresh, propose
from advprune.attacks.fast.l2_windows import L2Windows
from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.searcher import Searcher
from advprune.attacks.fast.windows import LinfWindows, Windows
from advprune.logits import lead

QUERIES = 5000
FIRST_SHARE = 0.8  # of the image's pixels in the first squares, the paper's p
#: After how many queries the share is halved, for 10,000 queries; pyautoattack does not rescale it
#: to its 5,000.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Queries whose random numbers are drawn at once.
CHUNK = 500
#: Points evaluated at once at most where there are fewer images. A ResNet-18 on a CPU needs 5.5 ms
#: for each of 24, 9.2 for each of three and 13.6 for a single one; a small network needs less than
#: the step around it.
AT_ONCE = 256
#: Queries looked through at once for those that the network has not answered yet.
LOOKED_THROUGH = 128
#: The most squares of an image of which it is remembered whether they were tried.
REMEMBERED = 16_384


def share(query: Tensor) -> Tensor:
    """Return the share of pixels in the square of each query, (...) float64.

    Args:
        query: number of the query, from zero, (...) int64.
    """
    after = torch.tensor(HALVED_AFTER, device=query.device)
    return FIRST_SHARE * 0.5 ** (query[..., None] > after).sum(-1).double()


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
        queries = torch.arange(QUERIES, device=results.x.device)
        self.sides = self.windows.sides(results.x, share(queries))

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
        squares = self.windows.count(x)
        state["tried"] = torch.zeros(  # by the square's number, the side with which it was refused
            len(x), squares if squares <= REMEMBERED else 0, dtype=torch.uint8, device=x.device
        )
        logits = self.net.ask(state["best"])
        state["lead"] = lead(logits, y)
        propose(self.results, state, logits, state["best"], self.net.slack)
        return state

    def step(self, state: dict[str, Tensor]) -> Tensor:
        """Try one or several squares on each row, and move it where its margin grew."""
        self._draw(state)
        made, best = state["made"], state["best"]
        ahead, row, offset, number = self._untried(state)
        shares, side = self._squares(state, row, made[row] + offset)
        before = best[row]
        point = self.windows.change(state["x"][row], before, side, shares)
        changed = (point != before).flatten(1).any(1).nonzero().squeeze(1)
        taken = self._query(state, point[changed], row[changed], offset[changed], ahead)
        self._remember(state, row, number, side, moved=taken < ahead)
        state["made"] = made + (taken + 1).minimum(ahead)
        state["refused"] = torch.where(taken < ahead, 0, state["refused"] + ahead)
        return state["made"] == QUERIES

    def _untried(self, state: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Look through each row's next queries for squares that the network has to answer.

        Returns:
            How many queries are looked through (R,); and of each square to try its row, how many
            queries come before it, and its number.
        """
        made = state["made"]
        most = self._at_once(state)
        left = torch.minimum(CHUNK - made % CHUNK, QUERIES - made)
        width = LOOKED_THROUGH if state["tried"].shape[1] else int(most.max())
        offset = torch.arange(width, device=made.device).expand(len(made), -1)
        row = torch.arange(len(made), device=made.device)[:, None].expand(-1, width)
        shares, side = self._squares(state, row, (made[:, None] + offset).clamp_max(QUERIES - 1))
        number = torch.zeros_like(side)
        new = offset < left[:, None]
        if state["tried"].shape[1]:
            number = self.windows.number(state["x"], side, shares)
            new = new & (state["tried"].gather(1, number) != side)
        within = (new.cumsum(1) <= most[:, None]) & (offset < left[:, None])
        chosen = new & within
        return within.sum(1), row[chosen], offset[chosen], number[chosen]

    def _at_once(self, state: dict[str, Tensor]) -> Tensor:
        """Return how many squares of each row run at once, (R,).

        They are half of those that just failed, so few are repeated; and without a graph four
        points need no more memory than a step of one image in the parts before.
        """
        points = max(min(AT_ONCE, 24 + 4 * len(self.results.x)), self.net.rows)
        return (state["refused"] // 2 + 1).clamp_max(max(points // len(state["made"]), 1))

    def _squares(
        self, state: dict[str, Tensor], row: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the random numbers (..., draws) and the sides (...) of queries (...) of rows."""
        return state["shares"][row, query % CHUNK], self.sides[query]

    def _remember(
        self, state: dict[str, Tensor], row: Tensor, number: Tensor, side: Tensor, moved: Tensor
    ) -> None:
        """Note the squares that were refused, and forget those of rows that moved."""
        if state["tried"].shape[1] == 0:
            return
        tried = state["tried"].index_put((row, number), side.to(torch.uint8))
        state["tried"] = tried.masked_fill(moved[:, None], 0)

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
