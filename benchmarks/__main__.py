"""All benchmarks, or those named, as one table: python -m benchmarks [NAME …]"""

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLUMNS = ("what", "against", "bar", "measured")


def main(chosen: list[str]) -> None:
    """Run them one after the other; each module has ``run()``, which gives rows of these columns.

    Raises:
        SystemExit: if a name is none of theirs.
    """
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name != "__main__"]
    unknown = set(chosen) - set(names)
    if unknown:
        raise SystemExit(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    table = Table(*COLUMNS, title="advprune benchmarks", title_justify="left")
    for name in chosen or names:
        print(f"running {name} …", file=sys.stderr)
        for row in import_module(f"benchmarks.{name}").run():
            table.add_row(*(f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS))
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
