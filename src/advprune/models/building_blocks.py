"""Provide what several architectures share: normalisation of pixels, and initial weights."""

import torch
from torch import Tensor, nn

from advprune.errors import UserError


class Normalize(nn.Module):
    """A layer of ``(x - mean) / std`` for each channel.

    The constants are buffers, so they follow the model's device and dtype, but they are not in the
    ``state_dict``: its names stay those of the published checkpoints, which keep their constants in
    the data pipeline.

    Args:
        mean: one number per channel, in [0, 1] pixel units.
        std: one positive number per channel, in [0, 1] pixel units.
        channels: how many channels the images have, where the caller knows it.

    Raises:
        UserError: if the lengths differ from each other or from ``channels``, or a ``std`` is not
            positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float], channels: int | None = None) -> None:
        super().__init__()
        channels = len(mean) if channels is None else channels
        if len(mean) != channels or len(std) != channels:
            raise UserError(
                f"model.mean={list(mean)} and model.std={list(std)} need one number per channel, "
                f"and the images have {channels}: give lists of {channels}, or null for the "
                "dataset's own"
            )
        if not all(value > 0 for value in std):
            raise UserError(
                f"model.std={list(std)} must be positive: use 1.0 to leave a channel's scale as it "
                "is"
            )
        self.register_buffer(
            "mean", torch.tensor([float(m) for m in mean]).view(-1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([float(s) for s in std]).view(-1, 1, 1), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Standardise images.

        Args:
            x: (N, C, H, W), pixels in [0, 1].

        Returns:
            (N, C, H, W), standardised per channel.
        """
        return (x - self.mean) / self.std

    def factor_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return by what a channel is multiplied, and what is added then, (C, 1, 1) both."""
        return 1 / self.std, -self.mean / self.std

    def extra_repr(self) -> str:
        """Return the constants, for ``print(model)``."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def he_fan_out(model: nn.Module) -> None:
    """Draw convolution weights from N(0, 2 / (k * k * out)), zero their biases (He et al. 2015).

    https://arxiv.org/abs/1502.01852

    Args:
        model: changed in place; linear and normalisation layers are left as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
