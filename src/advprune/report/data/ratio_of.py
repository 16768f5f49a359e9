"""Say what a ratio is a share of: papers mean weights, filters of each layer, of all, or MACs."""

from collections.abc import Mapping

BUDGETS = {"macs": "MACs", "parameters": "parameters", "blocks": "blocks"}


def ratio_of(pruner: Mapping[str, object]) -> str:
    """Return what the ratio of a pruner is a share of.

    Args:
        pruner: its options ``unit``, ``budget`` and ``scope``.

    Returns:
        ``weights`` of single ones; of filters and blocks the budget, and of a number of filters
        also the scope, for ``layer`` takes the share of each layer and ``global`` of all together.
    """
    if pruner.get("unit") is None:
        return "weights"
    budget = str(pruner.get("budget"))
    return BUDGETS.get(budget, f"{budget}, scope={pruner.get('scope')}")
