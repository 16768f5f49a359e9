"""The weight initialisation that several architectures share."""

from torch import nn


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
