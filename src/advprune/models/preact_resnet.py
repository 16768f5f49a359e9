"""Pre-activation ResNet-18 and -34 for small images (He et al. 2016).

The usual network of fast adversarial training.

https://arxiv.org/abs/1603.05027. Differs from the paper's ImageNet network by a 3x3 stem of stride
1 without a max-pool, and a downsampling shortcut is a bare 1x1 convolution. ``shortcut`` says of
what: of the ``activated`` input, as in the paper, kuangliu/pytorch-cifar and
locuslab/robust_overfitting, or of the ``raw`` one, as in locuslab/fast_adversarial and what
descends from it. Names and shapes of the weights are the same, so no file tells which. The keys are
those of locuslab/robust_overfitting; kuangliu's has no last normalisation: ``final_norm=false``.
"""

from typing import Literal

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize
from advprune.ranges import Depth, Width

Shortcut = Literal["activated", "raw"]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


UNSETTLED = (
    "weights of a pre-activation ResNet do not say what its shortcuts see, and activated was "
    "taken: set model.shortcut=raw (files of fast_adversarial, understanding-fast-adv, "
    "RobustBench's Wong2020Fast and Andriushchenko2020Understanding) or model.shortcut=activated "
    "(those of robust_overfitting and Rice2020Overfitting)"
)


class PreActBlock(nn.Module):
    """A block that normalises, activates and convolves, twice, beside a shortcut.

    The shortcut is a 1x1 convolution where the shape changes.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
        raw: the shortcut's convolution sees the block's input as it came, not activated.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, raw: bool = False) -> None:
        super().__init__()
        self.raw = raw
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(x if self.raw else active)
        out = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return out + shortcut


class PreActResNet(nn.Module):
    """A pre-activation ResNet for small images.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 18 or 34.
        width: filters of the first stage; the later ones have 2, 4 and 8 times as many.
        final_norm: normalise and activate before the average, as the paper does.
        shortcut: what a downsampling shortcut sees, see above; None is ``activated``, and foreign
            weights are doubted.

    Raises:
        UserError: if ``depth`` is neither 18 nor 34, or ``shortcut`` is unknown.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        depth: Depth = 18,
        width: Width = 64,
        final_norm: bool = True,
        shortcut: Shortcut | None = None,
    ) -> None:
        super().__init__()
        if shortcut not in (None, "activated", "raw"):
            raise UserError(f"model.shortcut={shortcut} is unknown: choose activated or raw")
        self.unsettled = () if shortcut else (UNSETTLED,)
        raw = shortcut == "raw"
        if depth not in BLOCKS:
            raise UserError(f"model.depth={depth} is not a depth of this ResNet: choose 18 or 34")
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        count = BLOCKS[depth]
        self.layer1 = _stage(width, width, count[0], 1, raw)
        self.layer2 = _stage(width, 2 * width, count[1], 2, raw)
        self.layer3 = _stage(2 * width, 4 * width, count[2], 2, raw)
        self.layer4 = _stage(4 * width, 8 * width, count[3], 2, raw)
        self.bn = nn.BatchNorm2d(8 * width) if final_norm else nn.Identity()
        self.relu = nn.ReLU() if final_norm else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        out = self.conv1(self.normalize(x))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(self.flatten(self.pool(self.relu(self.bn(out)))))


def _stage(inputs: int, outputs: int, count: int, stride: int, raw: bool) -> nn.Sequential:
    first = PreActBlock(inputs, outputs, stride, raw=raw)
    return nn.Sequential(first, *(PreActBlock(outputs, outputs, 1) for _ in range(count - 1)))
