"""Judge an attack by its own options, before it has attacked anything."""

from collections.abc import Iterator

from advprune.store.keys import Node

PGD = "advprune.attacks.pgd.pgd"


def too_short(attack: Node) -> list[str]:
    """Return a sentence for each PGD whose steps together are shorter than the ball's radius.

    From no start can such a PGD reach all of the ball, and its accuracy says little.
    """
    return [
        f"{where}steps={steps:g} of {where}rel_step={step:g} are {steps * step:.2g} of eps in all: "
        f"this PGD cannot cross its ball; leave {where}rel_step=null, which is 2.5 / steps, or "
        "give more steps"
        for where, steps, step in _pgds(attack, "attack.")
        if steps * step < 1 - 1e-9
    ]


def _pgds(node: object, where: str) -> Iterator[tuple[str, float, float]]:
    """Yield (path, steps, length of one step) of every PGD whose step length is set."""
    if not isinstance(node, dict):
        return
    if node.get("_target_") == PGD and node.get("rel_step") is not None:
        yield where, float(node.get("steps", 50)), float(node["rel_step"])
    for name, inner in node.items():
        yield from _pgds(inner, f"{where}{name}.")
