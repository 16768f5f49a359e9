"""Transfer attacks (Papernot et al. 2016, https://arxiv.org/abs/1605.07277).

Examples are crafted on another network, as in https://arxiv.org/abs/2206.07406, but for any source
and in pixel space. The pipeline crafts the examples of a source once and evaluates every target on
them; this is what it does for one batch.
"""

from collections.abc import Callable

from torch import Tensor, nn


def transfer(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    inner: Callable[[nn.Module, Tensor, Tensor], Tensor],
    source: nn.Module | None = None,
) -> Tensor:
    """Attack ``source`` in place of ``model``.

    Args:
        model: the target network; not used where there is a source.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        inner: (model, x, y) -> x_adv, run on ``source``.
        source: pixels (N, C, H, W) in [0, 1] -> logits (N, K); None for the target itself, which
            is a white-box attack.

    Returns:
        x_adv (N, C, H, W), as ``inner`` returns it.
    """
    return inner(model if source is None else source, x, y)
