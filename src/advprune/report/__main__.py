"""python -m advprune.report wandb --entity NAME: see ``dashboard``."""

import sys


def main(arguments: list[str]) -> int:
    """Route the first word; returns the exit code."""
    if arguments[:1] == ["wandb"]:
        from advprune.report import dashboard

        return dashboard.main(arguments[1:])
    print("error: give python -m advprune.report wandb --entity NAME", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
