"""The reference model: what pci_match_device() must answer.

It computes from `Inputs` alone; the kernel's answer never comes in here.
"""

from observer.model.explanation import Explanation, explain, why
from observer.model.semantics import SEMANTICS, Semantics, expect, why_not_live

__all__ = [
    "SEMANTICS",
    "Explanation",
    "Semantics",
    "expect",
    "explain",
    "why",
    "why_not_live",
]
