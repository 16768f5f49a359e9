"""PwoA: keep a robust network's robustness on clean images alone (Jian et al. 2022).

https://arxiv.org/abs/2210.04311. Distil the robust parent, and when the weights are retrained add
the HSIC bottleneck: features that tell little of the image and much of the label. No adversarial
example is made. Written from a description of the authors' code. Differs from it: the divergence is
a mean over images and not over images and classes, so their alpha of 10 is 1 here with ten classes;
features are the last map of each resolution; no batch is attacked.
"""

from collections.abc import Callable

from torch import Tensor, nn

from advprune.objectives.distillation import softened_kl, teacher_logits
from advprune.objectives.hsic import gaussian, nhsic, of_labels, stage_outputs
from advprune.ranges import Positive, Weight, refuse_outside


def pwoa(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    teacher: Callable[[Tensor], Tensor],
    temperature: Positive = 30.0,
    alpha: Weight = 1.0,
    image_weight: Weight = 2e-5,
    label_weight: Weight = 1e-4,
) -> Tensor:
    """Compute alpha * T^2 * KL(teacher || student at T) + sum over maps h of the bottleneck.

    The bottleneck of a map is image_weight * nHSIC(h, x) - label_weight * nHSIC(h, y).

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: not used.
        teacher: images -> the parent's logits (N, K), in eval mode.
        temperature: T, by which both sides' logits are divided.
        alpha: weight of the distillation.
        image_weight: of dependence on the image.
        label_weight: of dependence on the label.

    Returns:
        A scalar.

    Raises:
        UserError: if a weight is negative, ``temperature`` not positive, or the teacher has other
            classes.
    """
    refuse_outside(
        pwoa,
        temperature=temperature,
        alpha=alpha,
        image_weight=image_weight,
        label_weight=label_weight,
    )
    target = teacher_logits(teacher, x)
    with stage_outputs(model) as maps:
        logits = model(x)
    loss = alpha * softened_kl(logits, target, temperature)
    if not (image_weight or label_weight):
        return loss
    images, labels = gaussian(x), of_labels(y, logits.shape[1])
    for features in maps.values():
        kernel = gaussian(features)
        loss = loss + image_weight * nhsic(kernel, images) - label_weight * nhsic(kernel, labels)
    return loss
