"""What a file of weights cannot tell of a network: choices that change no name and no shape, only what is computed."""

from torch import nn


def unsettled(model: nn.Module) -> tuple[str, ...]:
    """The choices that nobody has made, a sentence each; a network that has some says so in ``model.unsettled``."""
    said = getattr(model, "unsettled", ())
    return tuple(said) if isinstance(said, tuple) else ()
