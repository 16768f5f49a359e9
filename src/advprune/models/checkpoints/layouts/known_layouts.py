"""Know the layouts of published pruned networks by name; docs/published_checkpoints.md lists them.

A layout is a line of ``LAYOUTS`` and, where zeros are not in the weights yet, one function.
"""

from advprune.errors import UserError
from advprune.models.checkpoints.layouts.factors import FACTOR, SOFT, bcs, bcs_doubts, mad, twin_rep
from advprune.models.checkpoints.layouts.layout import Layout, State
from advprune.models.checkpoints.layouts.scores import (
    RATED,
    SCORES,
    TICKET,
    harp,
    hydra,
    pretrained,
    rst,
)


def as_they_are(file: State, network: State, ratio: float | None) -> State:
    """Return the weights of a file whose zeros are in them."""
    return file


LAYOUTS = {
    "hydra": Layout(owner="Sehwag et al. 2020", has=SCORES, lacks=RATED - SCORES, read=hydra),
    "harp": Layout(owner="Zhao and Wressnegger 2023", has=RATED, read=harp),
    "rst": Layout(owner="Fu et al. 2021", has=TICKET, read=rst),
    "twin_rep": Layout(owner="Li et al. 2023", has=FACTOR, read=twin_rep),
    "mad": Layout(owner="Lee, Kim and Ro 2022", has=SOFT, read=mad),
    "bcs": Layout(
        owner="Özdenizci and Legenstein 2021",
        numbered=True,
        read=bcs,
        doubts=bcs_doubts,
    ),
    "flying_bird": Layout(owner="Chen et al. 2022", read=as_they_are),
    "robust_bird": Layout(owner="Chen et al. 2022", read=as_they_are),
    "radmm": Layout(owner="Ye et al. 2019", read=as_they_are),
    "pwoa": Layout(owner="Jian et al. 2022", read=as_they_are),
    "li20": Layout(owner="Li et al. 2020", read=as_they_are),
    "pretrained": Layout(owner="HYDRA's and HARP's dense parents", has=SCORES, read=pretrained),
}
#: What lies beside weights in any of them.
MARKS = frozenset().union(*(layout.has for layout in LAYOUTS.values()))


def layout_named(name: str) -> Layout:
    """Return the layout of a method.

    Raises:
        UserError: listing those there are.
    """
    if name not in LAYOUTS:
        raise UserError(
            f"layout={name} is not one of {', '.join(LAYOUTS)}; without the word a file's plain "
            "weights are read"
        )
    return LAYOUTS[name]


def fitting_layouts(file: State) -> list[str]:
    """Return the names of the layouts that a file may be in."""
    return [name for name, layout in LAYOUTS.items() if layout.fits(file, MARKS)]
