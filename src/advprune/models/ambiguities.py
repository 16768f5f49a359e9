"""What a file of weights cannot say: choices that change what is computed, not names or shapes."""

from torch import nn


def unsettled(model: nn.Module) -> tuple[str, ...]:
    """Return a sentence for each choice that is still open, as ``model.unsettled`` lists them."""
    said = getattr(model, "unsettled", ())
    return tuple(said) if isinstance(said, tuple) else ()
