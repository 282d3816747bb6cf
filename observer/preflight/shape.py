"""What a prediction says: changes, which matter, and notes, which explain."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What would change."""

    LOSES_DRIVER = "loses_driver"
    OTHER_DRIVER = "other_driver"
    MAY_CHANGE = "may_change"  # a race that is not there now
    GAINS_DRIVER = "gains_driver"
    OVERRIDE_NOT_PERSISTENT = "override_not_persistent"
    DYNID_NOT_PERSISTENT = "dynid_not_persistent"
    FRAMEBUFFER = "framebuffer"
    BUILT_IN = "built_in"  # what modprobe.d says of it no longer applies
    NAME_GONE = "name_gone"
    NEW_ID_RULES = "new_id_rules"


class Change(NamedTuple):
    """Something that an upgrade, or any reboot, would change."""

    kind: Kind
    address: str | None  # None: it is about no single device
    text: str  # one printable sentence, without a full stop
    cure: str | None = None  # a command, or a parameter for the command line


class Note(NamedTuple):
    """Something to know that needs no action."""

    address: str | None
    text: str
