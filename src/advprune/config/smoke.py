"""Make any job small enough to run through all of its stages in seconds: ``debug=smoke``."""

from typing import Any

from advprune.store.keys import Node

#: What options of these names are at most, wherever they are.
MOST = {
    "epochs": 2,
    "epochs_per_round": 1,
    "warmup_epochs": 0,
    "rounds": 2,
    "steps": 2,
    "restarts": 1,
    "count": 1,
    "samples": 2,
    "images": 16,
    "train_images": 256,
    "n_queries": 50,
    "n0": 16,
    "n": 200,
    "forward_size": 64,
    "seconds": 1,
}
#: What null, which means all, becomes.
FILLED = {"attack": {"images": 8}, "dataset": {"train_images": 256}}
DOUBT = (
    "debug=smoke: at most 2 epochs on 256 images, and 8 images attacked, to see that every stage "
    "runs; these numbers mean nothing"
)


def shrink(options: Node) -> Node:
    """Return the options of a job with few epochs, steps and images; none becomes larger."""
    small: Node = _small(options)
    for group, limits in FILLED.items():
        node = small[group]
        filled = {name: min(node.get(name) or most, most) for name, most in limits.items()}
        small[group] = node | filled
    return small


def _small(node: object) -> Any:
    if isinstance(node, list):
        return [_small(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    return {name: _at_most(name, value) for name, value in node.items()}


def _at_most(name: str, value: object) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and name in MOST:
        return min(value, MOST[name])
    return _small(value)
