"""Image processing for spatter's water: edges (Canny 1986), distances from them, lit relief.

After the documentation of OpenCV, which the published code calls. An array is one image, (H, W).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from advprune.attacks.common.pixels import Array, filtered

#: Lengths 1.4 and 2.1969 of OpenCV's 5 x 5 distance, in its 16 binary places: sums of them are
#: exact.
DIAGONAL, KNIGHT = round(1.4 * 65536) / 65536, round(2.1969 * 65536) / 65536
STEPS = {(0, 1): 1.0, (1, 0): 1.0, (1, 1): DIAGONAL, (1, 2): KNIGHT, (2, 1): KNIGHT}
#: The largest distance; all larger ones are cut to it.
FARTHEST = 20.0
_NINE = np.ones((3, 3))


def canny(levels: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """Find edges: crests of the gradient above ``low`` that are connected to one above ``high``.

    Args:
        levels: grey levels (H, W), 0 to 255.
        low: least gradient of an edge, as the L1 norm of 3 x 3 Sobel filters.
        high: least gradient of at least one pixel of each edge.
    """
    padded = np.pad(levels.astype(np.int64), 1, mode="edge")
    height, width = levels.shape

    def at(row: int, column: int) -> NDArray[np.int64]:
        return padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    across = sum(w * (at(r, 1) - at(r, -1)) for r, w in ((-1, 1), (0, 2), (1, 1)))
    down = sum(w * (at(1, c) - at(-1, c)) for c, w in ((-1, 1), (0, 2), (1, 1)))
    steep = np.abs(across) + np.abs(down)
    around = np.pad(steep, 1)

    def near(row: int, column: int) -> NDArray[np.int64]:
        return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    flat = np.abs(across) * np.tan(np.pi / 8)
    level, upright = np.abs(down) < flat, np.abs(down) > flat + 2 * np.abs(across)
    same = (across < 0) == (down < 0)
    crest = np.where(
        same,
        (steep > near(-1, -1)) & (steep > near(1, 1)),
        (steep > near(-1, 1)) & (steep > near(1, -1)),
    )
    crest = np.where(upright, (steep > near(-1, 0)) & (steep >= near(1, 0)), crest)
    crest = np.where(level, (steep > near(0, -1)) & (steep >= near(0, 1)), crest)
    crest &= steep > low
    numbers, _ = label(crest, structure=np.ones((3, 3)))
    return crest & np.isin(numbers, np.unique(numbers[crest & (steep > high)]))


def distance(edges: NDArray[np.bool_]) -> Array:
    """Return the distance to the nearest edge in steps of ``STEPS``, at most ``FARTHEST``."""
    height, width = edges.shape
    far = np.where(edges, 0.0, FARTHEST)
    moves = {
        (r * i, c * j): length for (r, c), length in STEPS.items() for i in (1, -1) for j in (1, -1)
    }
    for _ in range(int(FARTHEST)):
        padded = np.pad(far, 2, constant_values=FARTHEST)
        steps = [
            padded[2 + r : 2 + r + height, 2 + c : 2 + c + width] + length
            for (r, c), length in moves.items()
        ]
        nearer = np.minimum.reduce([far, *steps])
        if np.array_equal(nearer, far):
            break
        far = nearer
    return far


def equalised(values: NDArray[np.int64]) -> Array:
    """Equalise grey levels, so that they are spread evenly over 0 to 255.

    A level becomes the share of pixels above the lowest level that are at most as bright.
    """
    counts = np.bincount(values.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = values.size - counts[first]
    if rest == 0:
        return values.astype(np.float64)
    counts[first] = 0
    return np.rint(np.cumsum(counts) * (255 / rest))[values]


def ridges(levels: NDArray[np.uint8]) -> Array:
    """Return the light on one side of drops, in grey levels.

    It is the distance from their outlines, blurred, equalised, embossed and blurred again.
    """
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float64)
    blurred = np.floor(filtered(distance(canny(levels, 50, 150)), _NINE) / 9).astype(np.int64)
    relief = np.clip(filtered(equalised(blurred), emboss), 0, 255)
    return np.rint(filtered(relief, _NINE) / 9)
