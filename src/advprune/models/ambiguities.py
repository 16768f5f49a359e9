"""What a file of weights cannot say: choices that change what is computed, not names or shapes."""

from torch import nn


def unsettled(model: nn.Module) -> tuple[str, ...]:
    """Return a sentence for each choice that is still open, as ``model.unsettled`` lists them."""
    sentences = getattr(model, "unsettled", ())
    return tuple(sentences) if isinstance(sentences, tuple) else ()
