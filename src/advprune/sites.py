"""Where structured pruning may act: filters and residual blocks, by the names of their modules."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FilterSite:
    """The filters of one convolution that may be removed.

    Args:
        conv: the convolution whose output channels are the filters; the site's name.
        active: the module whose output is the feature map after the first activation behind it.
        gate: the module whose output the next full convolution or linear layer reads. It is
            ``active``, unless depthwise convolutions lie between.
        norm: its BatchNorm, where it has one.
    """

    conv: str
    active: str
    gate: str
    norm: str | None = None

    @property
    def name(self) -> str:
        """Return the site's name in scores and structures."""
        return self.conv


@dataclass(frozen=True)
class BlockSite:
    """One residual block that may be removed.

    Args:
        name: of the module that is the block; its output is the sum.
        stage: name shared by the blocks of one resolution; each stage keeps a minimum of blocks.
        convs: its convolutions, without the shortcut's.
        norm: the last BatchNorm of its branch, where it has one.
        branch: the module whose output is added to the shortcut.
        removable: whether the block may be replaced by the identity.
    """

    name: str
    stage: str
    convs: tuple[str, ...]
    norm: str | None
    branch: str
    removable: bool
