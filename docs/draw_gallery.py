"""Draw the pictures of docs/gallery.md: the last of each kind of plot that a store's report has.

Run: python docs/draw_gallery.py STORE. Needs matplotlib (the dev extra).
"""

import sys
import tempfile
from pathlib import Path

from advprune.report.build import build, tables_of
from advprune.report.plots.all_plots import MODULES
from advprune.report.plots.style import slug

OUT = Path(__file__).parent / "gallery"


def main(store: Path) -> None:
    """Build the report in a folder that is thrown away; keep a picture of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        build(store, Path(folder), tables_of(store))
        for kind in (slug(module.KIND) for module in MODULES):
            for last in sorted((Path(folder) / "plots").glob(f"{kind}-*.svg"))[-1:]:
                (OUT / f"{kind}.svg").write_bytes(last.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
