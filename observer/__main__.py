"""Run as ``python -m observer``."""

import sys

from observer.cli import main

if __name__ == "__main__":
    sys.exit(main())
