"""Where structured pruning may act: groups of filters and residual blocks, by the names of the modules concerned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FilterSite:
    """The filters of one convolution that may go.

    Args:
        conv: the convolution whose output channels are the filters; the site's name.
        active: the module whose output is the map after the first activation behind it.
        gate: the module whose output the next full convolution or linear layer reads; ``active``
            but for depthwise convolutions between.
        norm: its BatchNorm, where it has one.
    """

    conv: str
    active: str
    gate: str
    norm: str | None = None

    @property
    def name(self) -> str:
        """The site's name in scores and structures."""
        return self.conv


@dataclass(frozen=True)
class BlockSite:
    """One residual block.

    Args:
        name: of the block; its output is the sum.
        stage: blocks of one stage share it; a stage keeps a floor of them.
        convs: its convolutions, without the shortcut's.
        norm: the last BatchNorm of its branch, where it has one.
        branch: the module whose output is the branch that is added to the shortcut.
        removable: whether the block may be replaced by the identity.
    """

    name: str
    stage: str
    convs: tuple[str, ...]
    norm: str | None
    branch: str
    removable: bool
