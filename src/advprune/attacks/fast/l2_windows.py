"""The bumps of the Square Attack in L2: how a start and a query change the pixels.

Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049, section 3.4, with the choices of
pyautoattack that ``windows.py`` names.
"""

from functools import lru_cache

import torch
from torch import Tensor

from advprune.attacks.fast.row_ops import unit, wide
from advprune.attacks.fast.windows import corner, inside, rounded, sign, signs


class L2Windows:
    """A perturbation of few bumps: a query moves the mass of one window into another.

    Args:
        eps: radius, in pixel units.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def draws_at_start(self, x: Tensor) -> tuple[int, ...]:
        """Count for each tile whether it is turned, and a sign for each channel."""
        return (len(tiles(x)), 1 + x.shape[1])

    def draws(self, x: Tensor) -> int:
        """Count two corners, whether the bump is turned, and a sign for each channel."""
        return 5 + x.shape[1]

    def count(self, x: Tensor) -> int:
        """Count two corners of the smallest square, the turns, and signs of the channels."""
        down, along = corners(x)
        return (down * along) ** 2 << 1 + x.shape[1]

    def sides(self, x: Tensor, share: Tensor) -> Tensor:
        """Round up to odd, at least 3."""
        side = rounded(share, x).clamp_min(3)
        return (side + (side % 2 == 0)).clamp_max(min(x.shape[2:]))

    def number(self, x: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Combine the corners, the turn and the signs."""
        number, most = torch.zeros_like(side), corners(x)
        for place in range(4):
            here = corner(shares[..., place], x.shape[2 + place % 2] - side)
            number = number * most[place % 2] + here
        turned = (shares[..., 4] > 0.5).long()
        return (number * 2 + turned << x.shape[1]) + signs(shares[..., 5:])

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return a bump in each tile of a grid."""
        delta, side = torch.zeros_like(x), max(x.shape[2] // 5, 1)
        for number, (top, left) in enumerate(tiles(x)):
            bumps = bump(side, shares[:, number, 0]) * sign(shares[:, number, 1:])[:, :, None, None]
            delta[:, :, top : top + side, left : left + side] = bumps
        return (x + self.eps * unit(delta, "l2")).clamp(0, 1)

    def change(self, x: Tensor, best: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Add a bump to one window, with another's mass and what clipping had left over."""
        point = torch.empty_like(x)
        for value in side.unique().tolist():  # rows of one side are cut out together
            rows = (side == value).nonzero().squeeze(1)
            point[rows] = self._change(x[rows], best[rows], int(value), shares[rows])
        return point

    def _change(self, x: Tensor, best: Tensor, side: int, shares: Tensor) -> Tensor:
        delta, channels = best - x, x.shape[1]
        length = torch.full_like(shares[:, 0], side).long()
        free = torch.tensor([x.shape[2] - side, x.shape[3] - side] * 2, device=x.device)
        top, left, other_top, other_left = corner(shares[:, :4], free).unbind(1)
        here, there = inside(top, left, length, x), inside(other_top, other_left, length, x)
        left_over = (self.eps**2 - mass(delta).sum(1, keepdim=True)).clamp_min(0) / channels
        budget = (left_over + mass(delta * (here | there))).sqrt()
        cut = here.expand_as(delta)
        old = delta[cut].view(len(x), channels, side, side)
        new = bump(side, shares[:, 4]) * sign(shares[:, 5:])[:, :, None, None] + old / (
            1e-12 + mass(old).sqrt()
        )
        new = new / (1e-12 + mass(new).sqrt()) * budget
        delta = delta.masked_fill(there, 0.0)
        delta[cut] = new.flatten()
        return (x + self.eps * unit(delta, "l2")).clamp(0, 1)


def corners(x: Tensor) -> tuple[int, int]:
    """Return in how many rows and columns the smallest square may begin."""
    least = min(3, *x.shape[2:])
    return max(x.shape[2] - least, 1), max(x.shape[3] - least, 1)


def mass(delta: Tensor) -> Tensor:
    """Return the sum of squares of each channel, (R, C, 1, 1)."""
    return (delta**2).sum((2, 3), keepdim=True)


def tiles(x: Tensor) -> list[tuple[int, int]]:
    """List the corners of the start's tiles that lie in the image."""
    height, width = x.shape[2:]
    side = max(height // 5, 1)
    begin = max(height - 5 * side, 0) // 2
    rows = [begin + side * i for i in range(height // side) if begin + side * (i + 1) <= height]
    columns = [begin + side * i for i in range(width // side) if begin + side * (i + 1) <= width]
    return [(top, left) for top in rows for left in columns]


def bump(side: int, shares: Tensor) -> Tensor:
    """Return the paper's eta for each row, half of them turned: (R, 1, side, side)."""
    shape = _bump(side).to(shares.device)
    return torch.where(wide(shares > 0.5), shape.T, shape)


@lru_cache(maxsize=64)
def _bump(side: int) -> Tensor:
    """Return two pyramids side by side, one up and one down, of length 1: (side, side)."""
    half = side // 2
    shape = torch.cat([_pyramid(half, side), -_pyramid(side - half, side)])
    return shape / shape.norm()


def _pyramid(height: int, width: int) -> Tensor:
    """Return nested rectangles around the middle, the k-th adding 1 / k^2, of length 1."""
    out = torch.zeros(height, width)
    middle, centre = height // 2, width // 2
    for k in range(max(middle, centre) + 1):
        rows = slice(max(middle - k, 0), min(middle + k + 1, height))
        columns = slice(max(centre - k, 0), min(centre + k + 1, width))
        out[rows, columns] += 1 / (k + 1) ** 2
    return out / out.norm() if height else out
