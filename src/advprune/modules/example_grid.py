"""Draw attacked images: each image, its adversarial example, and the perturbation, magnified."""

import io
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from advprune.logits import NO_CLASS
from advprune.runtime.safe_files import write_atomically

#: Images in a picture; the least side of one, in pixels of the picture; how much perturbations are
#: magnified.
MOST, SIDE, TIMES = 8, 64, 10.0


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


def save(path: Path, x: Tensor, x_adv: Tensor, label: Tensor, clean: Tensor, after: Tensor) -> None:
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
