"""Spend a whole network's compression on the parameters that may be removed."""

from torch import nn

from advprune.errors import UserError


def keep_fraction(total: int, removable: int, compression: float) -> float:
    """Return the share of removable parameters kept when the network shrinks by ``compression``.

    f = (T / c - N) / P of greedy adversarial pruning (https://arxiv.org/abs/2206.07406): all
    parameters count, those that cannot be removed too.

    Args:
        total: T, all parameters of the network.
        removable: P of them; N = T - P are left alone.
        compression: c, original : remaining.

    Raises:
        UserError: if c is below 1 or leaves nothing; the message names the largest possible.
    """
    alone = total - removable
    if not compression >= 1:
        raise UserError(
            f"compression={compression:g} is not possible: it is original : remaining, at least 1"
        )
    share = (total / compression - alone) / removable
    if share <= 0:
        largest = f"below {int(100 * total / alone) / 100:g}" if alone else f"{total:g} at most"
        raise UserError(
            f"compression={compression:g} is not possible: {alone} of the network's {total} "
            f"parameters are left alone; give compression {largest}"
        )
    return share


def ratio_for(model: nn.Module, chosen: dict[str, nn.Parameter], compression: float) -> float:
    """Return the share of ``chosen`` to remove for a ``compression`` of the whole network.

    Raises:
        UserError: as ``keep_fraction``.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    removable = sum(parameter.numel() for parameter in chosen.values())
    return 1 - keep_fraction(total, removable, compression)
