"""The squares of the Square Attack: how a start and a query change the pixels, in either norm.

Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049, sections 3.3 and 3.4, with the choices
of pyautoattack: a side is rounded, at least 1 (linf) or odd and at least 3 (l2), and no square
touches the last row or column.

A square has a number, by which it is known again when it is drawn once more.
"""

from typing import Protocol

import torch
from torch import Tensor


class Windows(Protocol):
    """What differs between the norms. Shares are random numbers in [0, 1)."""

    def draws_at_start(self, x: Tensor) -> tuple[int, ...]:
        """Return how many random numbers the start of an image needs, as a shape."""

    def draws(self, x: Tensor) -> int:
        """Return how many random numbers a query needs."""

    def count(self, x: Tensor) -> int:
        """Return how many squares of one side there are at most."""

    def sides(self, x: Tensor, share: Tensor) -> Tensor:
        """Return the side of a square with this share of the pixels, int64 of the same shape."""

    def number(self, x: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Return which of the squares of that side it is, in [0, count), int64 (...).

        Args:
            x: images, of which only the shape is read.
            side: sides of the squares (...).
            shares: the random numbers that make them (..., draws).
        """

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return the first points (R, C, H, W), from ``shares`` (R, *draws_at_start)."""

    def change(self, x: Tensor, best: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Return the next points: ``best`` changed in a square of each image.

        Args:
            x: clean images (R, C, H, W).
            best: the best points so far, (R, C, H, W).
            side: side of the square, (R,).
            shares: random numbers (R, draws).
        """


def sign(shares: Tensor) -> Tensor:
    """Turn shares into -1 or 1, each equally often."""
    return torch.where(shares < 0.5, -1.0, 1.0)


def corner(shares: Tensor, free: Tensor) -> Tensor:
    """Return where a window starts: uniform in [0, free), 0 if nothing is free; int64 (R,)."""
    return (shares * free).long()


def rounded(share: Tensor, x: Tensor) -> Tensor:
    """Return the side of a square with this share of the pixels, rounded: int64 (...)."""
    return (share * x.shape[2] * x.shape[3]).sqrt().round().long()


def signs(shares: Tensor) -> Tensor:
    """Return a number in [0, 2^C) for the signs that shares (..., C) become: int64 (...)."""
    return ((shares < 0.5).long() << torch.arange(shares.shape[-1], device=shares.device)).sum(-1)


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

    def count(self, x: Tensor) -> int:
        """Count corners, and signs of the channels."""
        return x.shape[2] * x.shape[3] << x.shape[1]

    def sides(self, x: Tensor, share: Tensor) -> Tensor:
        """Round, at least 1."""
        return rounded(share, x).clamp(1, min(x.shape[2:]))

    def number(self, x: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Combine the corner and the signs."""
        top, left = self._corner(x, side, shares)
        return (top * x.shape[3] + left << x.shape[1]) + signs(shares[..., 2:])

    def start(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return vertical stripes."""
        return (x + self.eps * sign(shares)).clamp(0, 1)

    def change(self, x: Tensor, best: Tensor, side: Tensor, shares: Tensor) -> Tensor:
        """Set a square to one sign per channel."""
        top, left = self._corner(x, side, shares)
        edge = x + self.eps * sign(shares[:, 2:])[:, :, None, None]
        return torch.where(inside(top, left, side, x), edge.clamp(0, 1), best)

    def _corner(self, x: Tensor, side: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        top = corner(shares[..., 0], x.shape[2] - side)
        return top, corner(shares[..., 1], x.shape[3] - side)
