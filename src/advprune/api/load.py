"""Read a network from a folder of ``export=hub``, or one of the small zoo by its name."""

from importlib import resources
from pathlib import Path

from torch import nn

from advprune.errors import UserError
from advprune.surgery import hub_folder

#: The folder in the package whose folders are the zoo: DATASET/MODEL/NETWORK.
ZOO = "zoo"


def load(place: str | Path) -> nn.Module:
    """Return a network: of a folder, or of the zoo, as ``digits/small_cnn/hydra-0.99``.

    Args:
        place: a folder that ``export=hub`` wrote, or a name of ``zoo_names``; a folder that is
            there comes first.

    Returns:
        The network on the CPU, in eval mode: images (N, C, H, W) with pixels in [0, 1] -> logits.

    Raises:
        UserError: if there is neither, or the folder is damaged.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return hub_folder.read(folder)
    with resources.as_file(resources.files("advprune") / ZOO) as zoo:
        names = _names(zoo)
        if str(place) not in names:
            raise UserError(
                f"{place} is neither a folder nor a network of the zoo, which has "
                f"{', '.join(names)}"
            )
        return hub_folder.read(zoo / str(place))


def zoo_names() -> list[str]:
    """Return the names of the networks that come with the package, in order."""
    with resources.as_file(resources.files("advprune") / ZOO) as zoo:
        return _names(zoo)


def _names(zoo: Path) -> list[str]:
    """Return the folders of a zoo that hold a network, from its root."""
    configs = sorted(zoo.glob(f"*/*/*/{hub_folder.CONFIG}"))
    return [path.parent.relative_to(zoo).as_posix() for path in configs]
