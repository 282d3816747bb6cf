"""What a kernel upgrade would change, said before it is booted."""

from __future__ import annotations

from observer.preflight.document import as_object
from observer.preflight.kernels import Kernel, Rules
from observer.preflight.prediction import (
    Predicted,
    Preflight,
    has_changes,
    preflight,
)
from observer.preflight.report import as_text
from observer.preflight.shape import Change, Kind, Note

__all__ = [
    "Change",
    "Kernel",
    "Kind",
    "Note",
    "Predicted",
    "Preflight",
    "Rules",
    "as_object",
    "as_text",
    "has_changes",
    "preflight",
]
