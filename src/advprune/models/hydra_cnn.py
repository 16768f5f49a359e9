"""CNN-small and CNN-large, plain networks of verified training (Wong et al. 2018, HYDRA 2020).

https://arxiv.org/abs/1805.12514, https://arxiv.org/abs/2002.10509. Chains of convolution, ReLU,
flatten and linear layers, which bounds can walk; the keys (``0.weight``, ``2.weight``, …) are the
published ones. On other images than 32x32 only the first linear layer changes its size.
"""

from collections import OrderedDict

from torch import nn

from advprune.models.building_blocks import Normalize, he_fan_out


def cnn_small(
    *, num_classes: int, in_channels: int, image_size: int, mean: list[float], std: list[float]
) -> nn.Sequential:
    """Build CNN-small: two 4x4 convolutions of stride 2, one hidden layer of 100.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.

    Returns:
        A network from (N, C, H, W) pixels in [0, 1] to (N, num_classes) logits.
    """
    side = image_size // 2 // 2
    layers: list[nn.Module] = [
        *(nn.Conv2d(in_channels, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU()),
        nn.Flatten(),
        *(nn.Linear(32 * side * side, 100), nn.ReLU()),
        nn.Linear(100, num_classes),
    ]
    return _chain(Normalize(mean, std, in_channels), layers)


def cnn_large(
    *, num_classes: int, in_channels: int, image_size: int, mean: list[float], std: list[float]
) -> nn.Sequential:
    """Build CNN-large: four convolutions, every second of stride 2, two hidden layers of 512.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.

    Returns:
        A network from (N, C, H, W) pixels in [0, 1] to (N, num_classes) logits.
    """
    side = image_size // 2 // 2
    layers: list[nn.Module] = [
        *(nn.Conv2d(in_channels, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(64, 64, 4, stride=2, padding=1), nn.ReLU()),
        nn.Flatten(),
        *(nn.Linear(64 * side * side, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU()),
        nn.Linear(512, num_classes),
    ]
    return _chain(Normalize(mean, std, in_channels), layers)


def _chain(normalize: Normalize, layers: list[nn.Module]) -> nn.Sequential:
    """Chain the layers under their numbers, behind ``normalize``, which has no key."""
    named = OrderedDict[str, nn.Module](normalize=normalize)
    named.update((str(number), layer) for number, layer in enumerate(layers))
    model = nn.Sequential(named)
    he_fan_out(model)
    return model
