"""MobileNetV2: torchvision's, with its keys, behind a ``Normalize`` layer (Sandler et al. 2018).

https://arxiv.org/abs/1801.04381. With ``small_images`` the stem and the second stage have stride 1
instead of 2, so that a 32x32 image ends as a 4x4 map and not as one pixel; no parameter changes.
https://arxiv.org/abs/2206.07406 uses the unmodified strides: ``small_images=false``.
"""

from torch import Tensor, nn
from torchvision.models import mobilenetv2

from advprune.models.building_blocks import Normalize
from advprune.ranges import Factor, ShareBelowOne

# (expansion, channels, blocks, stride) of each stage: table 2 of the paper.
STAGES = [
    *([1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2]),
    *([6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]),
]


UNSETTLED = (
    "weights of a MobileNetV2 do not say the strides they were trained at, and those of small "
    "images were taken: set model.small_images=false (torchvision's strides) or "
    "model.small_images=true"
)


class MobileNetV2(mobilenetv2.MobileNetV2):
    """MobileNetV2 behind a ``Normalize`` layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        width: factor on every layer's filters, rounded to multiples of 8.
        dropout: probability of dropping a value before the classifier.
        small_images: stride 1 in the stem and the second stage; null means up to 64x64.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        width: Factor = 1.0,
        dropout: ShareBelowOne = 0.2,
        small_images: bool | None = None,
    ) -> None:
        small = image_size <= 64 if small_images is None else small_images
        unsettled = (UNSETTLED,) if small_images is None and small else ()
        stages = [[t, c, n, 1 if small and c == 24 else s] for t, c, n, s in STAGES]
        super().__init__(
            num_classes, width_mult=width, inverted_residual_setting=stages, dropout=dropout
        )
        self.unsettled = unsettled
        self.normalize = Normalize(mean, std, in_channels)
        first = self.features[0][0]
        stem = nn.Conv2d(
            in_channels, first.out_channels, 3, stride=1 if small else 2, padding=1, bias=False
        )
        nn.init.kaiming_normal_(stem.weight, mode="fan_out")
        self.features[0][0] = stem
        _without_inplace(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return super().forward(self.normalize(x))


def _without_inplace(model: nn.Module) -> None:
    """Let no ReLU6 work in place: a hook on a layer's output must not see the next layer's."""
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = False
