"""Random numbers of an image, decided by the seed, the image's place, the part and the turn."""

import numpy as np
import torch
from torch import Tensor

from advprune.attacks.per_image_rng import generators


def uniform(name: str, places: list[int], *shape: int) -> Tensor:
    """Draw float32 (R, *shape) uniform in [0, 1); row r belongs to ``places[r]``."""
    each = [g.random(shape, dtype=np.float32) for g in generators(name, places)]
    return torch.from_numpy(np.stack(each))


def normal(name: str, places: list[int], *shape: int) -> Tensor:
    """Draw float32 (R, *shape), standard normal; row r belongs to ``places[r]``."""
    each = [g.standard_normal(shape, dtype=np.float32) for g in generators(name, places)]
    return torch.from_numpy(np.stack(each))
