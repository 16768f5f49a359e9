"""Give all plots one look, in light and in dark.

Matplotlib draws with stand-in colours. These become real ones in a file, and CSS variables in the
page, so that one drawing serves light and dark.
"""

import re
import zlib
from dataclasses import dataclass

#: Stand-in -> (CSS variable, colour on paper). No plot uses the stand-ins for themselves.
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
#: Eight hues that colour-blind readers can tell apart (after Okabe and Ito); page.css has their
#: partners for the dark.
HUES = ("#0072b2", "#c8500a", "#008060", "#a8458f", "#8a6d00", "#5b5bd6", "#b3273c", "#4d6670")
STAND_INS = {
    INK: ("ink", "#1a1d21"),
    MUTED: ("muted", "#5a626b"),
    GRID: ("grid", "#dfe3e8"),
    SURFACE: ("surface", "#ffffff"),
    **{f"#0d0e{i:02x}": (f"series-{i}", hue) for i, hue in enumerate(HUES)},
}


@dataclass(frozen=True)
class Plot:
    """One drawing.

    Attributes:
        name: of its file, without the suffix.
        kind: heading that it comes under.
        title: above it.
        caption: below it.
        drawn: matplotlib's SVG, in stand-in colours.
    """

    name: str
    kind: str
    title: str
    caption: str
    drawn: str

    def file(self) -> str:
        """Return the SVG for a file, on white."""
        return _replaced(
            self.drawn, {stand_in: colour for stand_in, (_, colour) in STAND_INS.items()}
        )

    @property
    def prefix(self) -> str:
        """Return what the drawing's ids begin with in the page: short, for they are many."""
        return f"p{zlib.crc32(self.name.encode()):x}"

    def inline(self) -> str:
        """Return the ``<svg>`` element for the page, its ids unlike those of other drawings."""
        svg = self.drawn[self.drawn.index("<svg") :]
        svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to a group
        svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)  # the page says it once
        svg = re.sub(r'\bid="', f'id="{self.prefix}-', svg)
        svg = re.sub(r'href="#', f'href="#{self.prefix}-', svg)
        svg = re.sub(r"url\(#", f"url(#{self.prefix}-", svg)
        svg = _replaced(
            svg, {stand_in: f"var(--{name})" for stand_in, (name, _) in STAND_INS.items()}
        )
        return svg.replace(
            "<svg",
            '<svg role="img" aria-label="' + _attribute(f"{self.title}. {self.caption}") + '"',
            1,
        )


def _replaced(svg: str, colours: dict[str, str]) -> str:
    return re.sub("|".join(colours), lambda match: colours[match.group()], svg)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def slug(name: str) -> str:
    """Return a text made fit for file names and HTML ids."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:120]
