"""Random crop and flip of a whole batch on its device, different for each image.

(torchvision's v2 transforms, given a batch, move all its images alike.)
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from advprune.ranges import refuse_outside


class CropFlip:
    """Pad with zeros, crop back to size at a random place, mirror with probability 1/2.

    Args:
        crop: pixels of padding on each side; the crop is then one of (2 crop + 1)^2 shifts. 0: no
            crop.
        flip: mirror left-right with probability 1/2. Not for digits and letters: a mirrored 2 is no
            2.

    Raises:
        UserError: if ``crop`` is negative.
    """

    def __init__(self, *, crop: Annotated[int, Ge(0), Le(1024)] = 0, flip: bool = False) -> None:
        refuse_outside(CropFlip, crop=crop)
        self.crop, self.flip = crop, flip

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw moves for ``count`` images: int64 (count, 3), rows of (down, right, mirrored).

        ``down`` and ``right`` are where in the padded image the crop starts, 0 to 2 crop. They are
        drawn on the generator's device, so that a CPU generator gives the same moves to every
        accelerator.
        """
        shifts = torch.randint(2 * self.crop + 1, (count, 2), generator=generator)
        mirrored = torch.randint(2, (count, 1), generator=generator)
        return torch.cat([shifts, mirrored if self.flip else torch.zeros_like(mirrored)], dim=1)

    def apply(self, images: Tensor, moves: Tensor) -> Tensor:
        """Move each image (N, C, H, W) by its row of ``moves`` (N, 3).

        Shape, dtype and device stay.
        """
        if not self.crop and not self.flip:
            return images
        n, c, h, w = images.shape
        padded = F.pad(images, (self.crop,) * 4)
        down, right, mirrored = moves.unbind(1)
        rows = down[:, None] + torch.arange(h, device=images.device)
        columns = torch.arange(w, device=images.device).expand(n, w)
        columns = right[:, None] + torch.where(mirrored[:, None].bool(), columns.flip(1), columns)
        source = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).view(n, 1, h * w)
        return padded.flatten(2).gather(2, source.expand(n, c, h * w)).view(n, c, h, w)
