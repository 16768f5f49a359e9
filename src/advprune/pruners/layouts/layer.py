"""Remove the same share of each tensor."""

from advprune.masks import Masks, Scores, check_ratio, keep_count
from advprune.pruners.layouts import counts


def layer(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of each tensor, never all; ``masks.keep_count`` has the count."""
    check_ratio(ratio)
    return counts.largest(scores, [keep_count(score.numel(), ratio) for score in scores.values()])
