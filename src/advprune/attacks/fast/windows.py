"""The squares of the Square Attack: how a start and a query change the pixels, in either norm.

Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049, sections 3.3 and 3.4, with the choices
of pyautoattack: a side is rounded, at least 1 (linf) or odd and at least 3 (l2), and no square
touches the last row or column.
"""

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from advprune.attacks.fast.row_ops import unit, wide


class Windows(Protocol):
    """What differs between the norms. Shares are random numbers in [0, 1)."""

    def draws_at_start(self, x: Tensor) -> tuple[int, ...]:
        """Return how many random numbers the start of an image needs, as a shape."""

    def draws(self, x: Tensor) -> int:
        """Return how many random numbers a query needs."""

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return the first points (R, C, H, W), from ``shares`` (R, *draws_at_start)."""

    def change(self, x: Tensor, best: Tensor, share: Tensor, shares: Tensor) -> Tensor:
        """Return the next points: ``best`` changed in a square of each image.

        Args:
            x: clean images (R, C, H, W).
            best: the best points so far, (R, C, H, W).
            share: share of the pixels in the square, (R,).
            shares: random numbers (R, draws).
        """


def sign(shares: Tensor) -> Tensor:
    """Turn shares into -1 or 1, each equally often."""
    return torch.where(shares < 0.5, -1.0, 1.0)


def corner(shares: Tensor, free: Tensor) -> Tensor:
    """Return where a window starts: uniform in [0, free), 0 if nothing is free; int64 (R,)."""
    return (shares * free).long()


def sides(share: Tensor, x: Tensor) -> Tensor:
    """Return the side of a square with this share of the pixels, rounded: int64 (R,)."""
    return (share * x.shape[2] * x.shape[3]).sqrt().round().long()


def inside(top: Tensor, left: Tensor, side: Tensor, x: Tensor) -> Tensor:
    """Mark the pixels in each row's window: bool (R, 1, H, W)."""
    down = torch.arange(x.shape[2], device=x.device)
    along = torch.arange(x.shape[3], device=x.device)
    vertical = (down >= top[:, None]) & (down < (top + side)[:, None])
    horizontal = (along >= left[:, None]) & (along < (left + side)[:, None])
    return (vertical[:, :, None] & horizontal[:, None, :])[:, None]


class LinfWindows:
    """Every pixel at plus or minus eps: vertical stripes, then squares of one sign per channel.

    Args:
        eps: radius, in pixel units.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def draws_at_start(self, x: Tensor) -> tuple[int, ...]:
        """Count a sign for each channel and column."""
        return (x.shape[1], 1, x.shape[3])

    def draws(self, x: Tensor) -> int:
        """Count a corner, and a sign for each channel."""
        return 2 + x.shape[1]

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return vertical stripes."""
        return (x + self.eps * sign(shares)).clamp(0, 1)

    def change(self, x: Tensor, best: Tensor, share: Tensor, shares: Tensor) -> Tensor:
        """Set a square to one sign per channel."""
        side = sides(share, x).clamp(1, min(x.shape[2:]))
        top, left = corner(shares[:, 0], x.shape[2] - side), corner(shares[:, 1], x.shape[3] - side)
        edge = x + self.eps * sign(shares[:, 2:])[:, :, None, None]
        return torch.where(inside(top, left, side, x), edge.clamp(0, 1), best)


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

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return a bump in each tile of a grid."""
        delta, side = torch.zeros_like(x), max(x.shape[2] // 5, 1)
        for number, (top, left) in enumerate(tiles(x)):
            bumps = bump(side, shares[:, number, 0]) * sign(shares[:, number, 1:])[:, :, None, None]
            delta[:, :, top : top + side, left : left + side] = bumps
        return (x + self.eps * unit(delta, "l2")).clamp(0, 1)

    def change(self, x: Tensor, best: Tensor, share: Tensor, shares: Tensor) -> Tensor:
        """Add a bump to one window, with another's mass and what clipping had left over."""
        side = sides(share, x).clamp_min(3)
        side = (side + (side % 2 == 0)).clamp_max(min(x.shape[2:]))
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
