"""The picture that a word names: a file, a boot, a kernel, the baseline, or now."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from observer import document
from observer.candidates import Matching
from observer.comparison import Side
from observer.depict import depict
from observer.fields import FieldError
from observer.state_directory import as_owner
from observer.store import Archive, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from observer.machine import Machine
    from observer.pictured import Pictured
    from observer.store import Boot, Kept

NOW: Final = "now"
BASELINE: Final = "baseline"
_AGO: Final = re.compile(r"boot:-([0-9]{1,9})")
_PREFIX: Final = 4  # least characters of a boot id


class PictureError(ValueError):
    """There is no such picture; one sentence says why and what to do."""


def find(word: str, *, state: Path, look: Callable[[], Machine]) -> Side:
    """Return the picture that a word names.

    `state` is the file that the daemon keeps; it is read where it is asked for only.
    `look` returns the machine as it is now. Raises PictureError.
    """
    if word == NOW:
        return Side(NOW, of_machine(look()))
    if "/" in word or Path(word).is_file():
        return Side(word, read(Path(word)))
    kept = _kept(word, state)
    return Side(word, of_kept(word, kept))


def of_machine(machine: Machine) -> Pictured:
    """Return the picture of a machine, judged by its own semantics."""
    return depict(machine, Matching(machine))


def read(path: Path) -> Pictured:
    """Read a file that `audit --json` wrote. Raises PictureError."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise PictureError(f"{path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise PictureError(f"{path}: not JSON ({e})") from e
    try:
        return document.from_object(value)
    except FieldError as e:
        raise PictureError(f"{path}: {e}") from e


def baseline(state: Path) -> Kept | None:
    """Return the baseline; None: there is none yet. Raises PictureError."""
    try:
        with as_owner(state.parent), Archive(state) as archive:
            return archive.baseline()
    except StoreError as e:
        raise PictureError(str(e)) from e


def of_kept(word: str, kept: Kept) -> Pictured:
    """Return the picture in what the store kept. Raises PictureError."""
    try:
        return document.from_object(kept.document)
    except FieldError as e:
        raise PictureError(f"{word}: the picture that was kept is bad: {e}") from e


def _kept(word: str, state: Path) -> Kept:
    try:
        with as_owner(state.parent), Archive(state) as archive:
            return _of_archive(word, archive)
    except StoreError as e:
        raise PictureError(f"{word}: no such file, and no boots are known: {e}") from e


def _of_archive(word: str, archive: Archive) -> Kept:
    if word == BASELINE:
        kept = archive.baseline()
        if kept is None:
            raise PictureError(f"{word}: there is none yet")
        return kept
    pictures = map(archive.picture, _boots(word, archive.boots()))
    kept = next((each for each in pictures if each is not None), None)
    if kept is None:
        raise PictureError(f"{word}: its bindings never rested long enough to be kept")
    return kept


def _boots(word: str, boots: Sequence[Boot]) -> Sequence[Boot]:
    """Return the boot that is named by its place or id, or those of a kernel.

    The newest comes first. Raises PictureError when there is none.
    """
    newest = boots[::-1]
    ago = _AGO.fullmatch(word)
    if ago is not None:
        found = newest[int(ago[1]) :][:1]
    else:
        found = [boot for boot in newest if boot.release == word]
    if not found and len(word) >= _PREFIX:
        found = [boot for boot in newest if boot.boot_id.startswith(word)]
        if len(found) > 1:
            raise PictureError(
                f"{word}: {len(found)} boots have such an id; write more"
            )
    if not found:
        raise PictureError(
            f"{word}: neither a file, nor a boot, nor a kernel that was observed; "
            "pci-observer history lists them"
        )
    return found
