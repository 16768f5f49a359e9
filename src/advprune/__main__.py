"""Run ``python -m advprune``, which is the command ``advprune``."""

import sys

from advprune.cli import main

if __name__ == "__main__":
    sys.exit(main())
