"""What was seen, kept in an SQLite file over restarts and reboots."""

from observer.store.archive import Archive, Past, accept
from observer.store.database import StoreError
from observer.store.shape import (
    FILE,
    Binding,
    Boot,
    Bound,
    Counts,
    Document,
    Kept,
    KeptFinding,
    Limits,
    Moment,
    Notice,
    Running,
    Who,
)
from observer.store.writer import Store

__all__ = [
    "FILE",
    "Archive",
    "Binding",
    "Boot",
    "Bound",
    "Counts",
    "Document",
    "Kept",
    "KeptFinding",
    "Limits",
    "Moment",
    "Notice",
    "Past",
    "Running",
    "Store",
    "StoreError",
    "Who",
    "accept",
]
