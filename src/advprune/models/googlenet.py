"""GoogLeNet: torchvision's, with its keys, without auxiliary heads (Szegedy et al. 2015).

https://arxiv.org/abs/1409.4842, with batch normalisation as torchvision has it. With
``small_images`` the stem has stride 1 and no max-pool, so that a 32x32 image ends as a 4x4 map and
not as one pixel; no parameter changes. https://arxiv.org/abs/2206.07406 uses the unmodified
strides: ``small_images=false``.
"""

from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux
from torchvision.models.googlenet import GoogLeNet as Torchvision

from advprune.models.building_blocks import Normalize
from advprune.ranges import ShareBelowOne

UNSETTLED = (
    "weights of a GoogLeNet do not say the strides they were trained at, and those of small images "
    "were taken: set model.small_images=false (torchvision's strides) or model.small_images=true"
)


class ConvBlock(BasicConv2d):
    """Convolution, normalisation, ReLU; hooks see the ReLU's input, as it is not in place."""

    def __init__(self, in_channels: int, out_channels: int, **convolution: object) -> None:
        super().__init__(in_channels, out_channels, **convolution)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H', W') of maps (N, in_channels, H, W)."""
        return self.relu(self.bn(self.conv(x)))


class GoogLeNet(Torchvision):
    """GoogLeNet behind a ``Normalize`` layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        dropout: probability of dropping a value before the classifier.
        small_images: stride 1 and no max-pool in the stem; null means up to 64x64.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        dropout: ShareBelowOne = 0.2,
        small_images: bool | None = None,
    ) -> None:
        small = image_size <= 64 if small_images is None else small_images
        unsettled = (UNSETTLED,) if small_images is None and small else ()
        blocks = [ConvBlock, _Block, InceptionAux]
        super().__init__(
            num_classes, aux_logits=False, init_weights=True, blocks=blocks, dropout=dropout
        )
        self.unsettled = unsettled
        self.normalize = Normalize(mean, std, in_channels)
        stem = nn.Conv2d(in_channels, 64, 7, stride=1 if small else 2, padding=3, bias=False)
        nn.init.trunc_normal_(stem.weight, mean=0.0, std=0.01, a=-2, b=2)
        self.conv1.conv = stem
        self._fit_pools(image_size if small else (image_size + 1) // 2, first=not small)

    def _fit_pools(self, side: int, *, first: bool) -> None:
        """Leave out the max-pools that a map of one pixel has no use for."""
        for name in ("maxpool1", "maxpool2", "maxpool3", "maxpool4"):
            if side < 2 or (name == "maxpool1" and not first):
                setattr(self, name, nn.Identity())
            else:
                side = (side + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return self._forward(self.normalize(x))[0]


class _Block(Inception):
    """Four branches, concatenated; made of ``ConvBlock``."""

    def __init__(self, *widths: int) -> None:
        super().__init__(*widths, conv_block=ConvBlock)
