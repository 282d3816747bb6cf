"""Observe and judge every PCI match decision of a running Linux kernel."""

__version__ = "0.1.0"
