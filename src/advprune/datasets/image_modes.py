"""Turn an image of any mode that Pillow reads into 8 bits, grey or colour, as viewers do.

Pillow's own ``convert`` cuts 16 bits off at 255, which makes all of an image white, and shows what
lies hidden under transparent pixels.
"""

import struct
from typing import Any

import numpy as np
from PIL import Image

#: Modes of the images that are read: by number of channels, what each is converted to.
MODES = {1: "L", 3: "RGB"}
#: Modes of 8 bits and fewer, whose conversion is Pillow's.
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION = 258, 262, 274  # of TIFF, and of EXIF in any file
#: What turns an image upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Convert the first frame of an image to 8-bit grey (1 channel) or colour (3).

    16-bit grey levels are scaled from the file's range to 0 to 255, transparent pixels lie on
    white, and the EXIF orientation is applied.

    Args:
        image: as ``Image.open`` gives it, not loaded.
        channels: 1 or 3.

    Raises:
        ValueError: naming the mode, if its range is not known: 32 bits and floats may mean any.
    """
    image.load()
    turned = upright(image)
    largest = _largest(image)
    if largest is not None:
        return _scaled(turned, largest, image.info.get("transparency")).convert(MODES[channels])
    if image.mode not in EIGHT_BITS:
        raise ValueError(f"its mode {image.mode} has no known range; convert it to 8 or 16 bits")
    if turned.has_transparency_data:
        coloured = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return turned.convert(MODES[channels])


def upright(image: Image.Image) -> Image.Image:
    """Turn a loaded image as its EXIF orientation says; itself if that cannot be read."""
    try:
        way = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        way = None  # the pixels may be sound
    return image if way is None else image.transpose(way)


def _largest(image: Image.Image) -> int | None:
    """Return the value that is white in an image of 9 to 16 bits; None for any other."""
    if image.mode.startswith("I;16"):
        bits = _tag(image, BITS_PER_SAMPLE, (16,))
        return (1 << int(bits[0] if isinstance(bits, tuple) else bits)) - 1
    # PNG has no more than 16 bits, and Pillow spreads those of PGM over all 16
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _scaled(image: Image.Image, largest: int, transparent: object) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    grey = np.rint(values.clip(0, largest) * (255 / largest)).astype(np.uint8)
    if _tag(image, PHOTOMETRIC, 1) == 0:  # white is zero; of 8 bits, Pillow has turned it round
        grey = 255 - grey
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _tag(image: Image.Image, number: int, default: object) -> Any:
    """Return a tag of a TIFF file; the default for other formats."""
    return getattr(image, "tag_v2", {}).get(number, default)
