#!/usr/bin/python3 -I
"""Start pci-observer from its private directory."""

import sys

sys.path.insert(0, "/usr/lib/pci-observer")

from observer.cli import main

sys.exit(main())
