"""Check the images that an attack returns and the evaluation they stand for, and draw them."""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from advprune.errors import UserError
from advprune.logits import NO_CLASS, are_probabilities
from advprune.runtime.safe_files import write_atomically
from advprune.threat import Threat

#: Room for float32 rounding: of a projection onto an L2 ball, or of x + eps - x.
SLACK = 1e-5
#: Images in a picture; the least side of one, in pixels of the picture; how much perturbations are
#: magnified.
MOST, SIDE, TIMES = 8, 64, 10.0


def check_adversarial(x_adv: Tensor, x: Tensor, threat: Threat | None, name: str) -> Tensor:
    """Check that ``x_adv`` is a legal answer; return its distance from ``x``, (N,).

    Args:
        x_adv: what the attack returned.
        x: images, float (N, C, H, W) in [0, 1].
        threat: the ball; None for an attack that declares a perturbation set of its own, such as
            translations, whose distance is then the largest change of a pixel.
        name: of the attack, for the sentence.

    Raises:
        UserError: if its shape or type differ, it has left the ball or [0, 1], or is not a number.
    """
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise UserError(
            f"attack {name} returned {tuple(x_adv.shape)} {x_adv.dtype} for images of "
            f"{tuple(x.shape)} {x.dtype}; an attack keeps shape and type"
        )
    distance = (x_adv - x).flatten(1).abs().amax(1) if threat is None else threat.distance(x_adv, x)
    if threat is not None and not bool((distance <= threat.eps + SLACK).all()):
        raise UserError(
            f"attack {name} left the ball: {threat.norm} distance {distance.max().item():.6f}, eps "
            f"{threat.eps:.6f}; project what it returns with threat.project"
        )
    if not bool(((x_adv >= -SLACK) & (x_adv <= 1 + SLACK)).all()):
        raise UserError(
            f"attack {name} returned pixels outside [0, 1]; an attack ends with threat.project or "
            "clamp(0, 1)"
        )
    return distance


def evaluation_warnings(net: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """Return reasons, a sentence each, to distrust robust accuracy measured on this network.

    Looks for what AutoAttack's authors look for (Croce and Hein 2020,
    https://arxiv.org/abs/2003.01690, and their checks): random outputs, outputs that are no logits,
    gradients that vanish; and for stale BatchNorm statistics.

    Args:
        net: in eval mode.
        x: some test images, float (N, C, H, W) in [0, 1].
        y: their labels (N,).
    """
    reasons = []
    with torch.enable_grad():
        probe = x.clone().requires_grad_(True)
        logits = net(probe)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), probe)
    with torch.no_grad():
        if not torch.equal(net(x).nan_to_num(), net(x).nan_to_num()):
            reasons.append(
                "the network's outputs are random: two passes over the same images differ"
            )
    logits = logits.detach()
    if are_probabilities(logits):
        reasons.append(
            "the outputs look like probabilities, not logits: gradient attacks are weak on them"
        )
    flat = (grad.flatten(1).abs().amax(1) == 0).float().mean().item()
    if flat > 0.01:
        reasons.append(
            f"the input gradient is exactly zero on {flat:.0%} of the images: gradient attacks see "
            "nothing there"
        )
    if any(_never_set(module) for module in net.modules()):
        reasons.append("a BatchNorm layer has never seen a batch: its statistics are stale")
    return reasons


def _never_set(module: nn.Module) -> bool:
    if (
        not isinstance(module, nn.BatchNorm2d)
        or module.running_mean is None
        or module.running_var is None
    ):
        return False
    return bool((module.running_mean == 0).all() & (module.running_var == 1).all())


def magnified(x: Tensor, x_adv: Tensor) -> tuple[Tensor, float]:
    """Return the perturbation magnified around middle grey, and the factor.

    The factor is ``TIMES``, or less where that would leave [0, 1].
    """
    change = x_adv - x
    largest = float(change.abs().max())
    factor = min(TIMES, 0.5 / largest) if largest else TIMES
    return (0.5 + factor * change).clamp(0, 1), factor


def picture(x: Tensor, x_adv: Tensor, words: list[str]) -> Image.Image:
    """Draw three rows (images, attacked images, magnified perturbations) with words above.

    Args:
        x: images, float (N, C, H, W) in [0, 1]; C is 1 or 3.
        x_adv: attacked, of the same shape.
        words: one for each column.
    """
    shown, factor = magnified(x, x_adv)
    scale = max(-(-SIDE // x.shape[-1]), 1)
    whole = torch.cat([x, x_adv, shown]).float().cpu()
    whole = whole.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    rows = to_pil_image(make_grid(whole, nrow=len(x), padding=4, pad_value=1.0))
    left, above = 96, 20
    out = Image.new("RGB", (rows.width + left, rows.height + above), "white")
    out.paste(rows, (left, above))
    pen, step = ImageDraw.Draw(out), whole.shape[-1] + 4
    for row, name in enumerate(("image", "attacked", f"perturbation\nx {factor:.3g}")):
        pen.multiline_text(
            (6, above + int((row + 0.4) * (whole.shape[-2] + 4))), name, fill="black"
        )
    for column, word in enumerate(words):
        pen.text((left + 4 + column * step, 4), word, fill="black")
    return out


def _class(predicted: Tensor) -> str:
    return "NaN" if predicted == NO_CLASS else str(predicted.item())


def save_picture(
    path: Path, x: Tensor, x_adv: Tensor, label: Tensor, clean: Tensor, after: Tensor
) -> None:
    """Write the first images as PNG, those first that the attack fooled.

    Above each are its label and the prediction before and after.

    Args:
        path: of the PNG.
        x: images, float (N, C, H, W) in [0, 1].
        x_adv: attacked, of the same shape.
        label: true classes (N,).
        clean: classes predicted on x (N,); ``NO_CLASS`` without finite logits.
        after: classes predicted on x_adv (N,).
    """
    fooled = ((clean == label) & (after != label)).to(torch.int64)
    order = torch.argsort(fooled, descending=True, stable=True)[:MOST]
    words = [f"{label[i]}: {_class(clean[i])} > {_class(after[i])}" for i in order.tolist()]
    content = io.BytesIO()
    picture(x[order], x_adv[order], words).save(content, "PNG")
    write_atomically(path, content.getvalue())
