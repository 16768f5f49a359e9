"""Attack within another radius than training: ``attack.eps`` beside ``threat.eps``."""

from typing import Any


def with_attack_eps(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ``attack.eps`` in every ball inside the attack.

    Training keeps ``threat.eps``.
    """
    attack = options.get("attack") or {}
    if attack.get("eps") is None:
        return options

    def with_eps(node: Any) -> Any:
        if node == options["threat"]:
            return evaluation_threat(options)
        if isinstance(node, dict):
            return {name: with_eps(value) for name, value in node.items()}
        return [with_eps(value) for value in node] if isinstance(node, list) else node

    return options | {"attack": with_eps(attack)}


def evaluation_threat(options: dict[str, Any]) -> dict[str, Any]:
    """Return the threat that the network is evaluated under: the run's, with ``attack.eps``."""
    eps = options["attack"].get("eps")
    return options["threat"] if eps is None else options["threat"] | {"eps": eps}
