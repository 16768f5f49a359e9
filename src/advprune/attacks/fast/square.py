"""Square Attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049), of many images at once.

Each image has squares of its own and its own count of queries. A square that changes no pixel is a query too, but the
network is not asked again what it has just said.
"""

import torch
from torch import Tensor

from advprune.attacks.fast import noise
from advprune.attacks.fast.board import Board
from advprune.attacks.fast.network import Searcher
from advprune.attacks.fast.propose import fresh, propose
from advprune.attacks.fast.rows import put
from advprune.attacks.fast.windows import L2Windows, LinfWindows, Windows
from advprune.losses import margin

QUERIES = 5000
FIRST_SHARE = 0.8  # of the image's pixels in the first squares, the paper's p
#: After how many queries the share is halved, for 10,000 queries; pyautoattack does not rescale it to its 5,000.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Queries whose random numbers are drawn together.
CHUNK = 500


def share(query: Tensor) -> Tensor:
    """The share of pixels in the square of each row's query, counted from zero: (R,) int64 -> (R,) float64."""
    after = torch.tensor(HALVED_AFTER, device=query.device)
    return FIRST_SHARE * 0.5 ** (query[:, None] > after).sum(1).double()


class Square:
    """The search.

    Args:
        net: the copy that searches.
        board: the images.
        seed: of the squares.
    """

    turns = 1

    def __init__(self, net: Searcher, board: Board, *, seed: int) -> None:
        self.net, self.board, self.seed = net, board, seed
        self.windows: Windows = (LinfWindows if board.threat.norm == "linf" else L2Windows)(board.threat.eps)

    def begin(self, image: Tensor, turn: Tensor) -> dict[str, Tensor]:
        """Rows at their random starts, stripes or tiles, which are the first query."""
        x, y = self.board.x[image], self.board.y[image]
        shares = self._shares("start", image, *self.windows.draws_at_start(x))
        state = {"image": image, "turn": turn, "x": x, "y": y, "best": self.windows.start(x, shares),
                 "made": torch.zeros_like(image), "offered": fresh(len(x), x.device),
                 "lead": fresh(len(x), x.device)}  # fmt: skip
        state["shares"] = torch.zeros(len(x), CHUNK, self.windows.draws(x), device=x.device)
        logits = self.net.ask(state["best"])
        state["lead"] = margin(logits, y)
        propose(self.board, state, logits, state["best"], self.net.slack)
        return state

    def step(self, state: dict[str, Tensor]) -> Tensor:
        """One query of each row; it stays where it is unless the square made its margin larger."""
        self._draw(state)
        rows = torch.arange(len(state["made"]), device=state["made"].device)
        shares = state["shares"][rows, state["made"] % CHUNK]
        point = self.windows.change(state["x"], state["best"], share(state["made"]), shares)
        changed = (point != state["best"]).flatten(1).any(1).nonzero().squeeze(1)
        state["made"] = state["made"] + 1
        if len(changed):
            self._query(state, point[changed], changed)
        return state["made"] == QUERIES

    def _query(self, state: dict[str, Tensor], point: Tensor, rows: Tensor) -> None:
        """Ask about the points of some rows, and keep those that are better."""
        logits = self.net.ask(point)
        asked = {name: state[name][rows] for name in ("image", "y", "offered", "lead", "best")}
        lead = margin(logits, asked["y"])
        better = lead > asked["lead"]
        put(asked, better, lead=lead, best=point)
        propose(self.board, asked, logits, point, self.net.slack, among=better)
        for name in ("offered", "lead", "best"):
            state[name] = state[name].index_copy(0, rows, asked[name])

    def _draw(self, state: dict[str, Tensor]) -> None:
        """Random numbers for the next queries of rows that have used theirs up."""
        due = (state["made"] % CHUNK == 0).nonzero().squeeze(1)
        if len(due) == 0:
            return
        for chunk in (state["made"][due] // CHUNK).unique().tolist():
            rows = due[state["made"][due] // CHUNK == chunk]
            state["shares"][rows] = self._shares(str(chunk), state["image"][rows], *state["shares"].shape[1:])

    def _shares(self, name: str, image: Tensor, *shape: int) -> Tensor:
        name = f"autoattack/{self.seed}/square/{name}"
        return noise.uniform(name, self.board.places_of(image), *shape).to(image.device)
