"""Boots, their findings and their pictures, within a transaction of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.standing import key_of
from observer.store.rows import cell, insert, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.findings import Finding
    from observer.store.database import Connection
    from observer.store.shape import Moment, Running


def enter_boot(connection: Connection, running: Running, now: Moment) -> int:
    """Return the number of the boot, a new one where it was not seen before."""
    texts = tuple(map(cell, running))
    found = connection.execute(
        "SELECT boot FROM boots WHERE boot_id = ?", texts[:1]
    ).fetchone()
    if found is not None:
        connection.execute(
            "UPDATE boots SET release = ?, machine = ?, layout = ?, semantics = ?, "
            "new_id_rules = ?, version = ? WHERE boot = ?",
            (*texts[1:], *found),
        )
        touch_boot(connection, found[0], now)
        return int(found[0])
    times = (now.unix_ns, now.unix_ns, now.ktime_ns, now.ktime_ns)
    made = connection.execute(insert("boots", 12), (None, *texts, *times))
    return int(made.lastrowid or 0)


def touch_boot(connection: Connection, boot: int, now: Moment) -> None:
    """Note that the boot was observed now."""
    connection.execute(
        "UPDATE boots SET last_unix_ns = ?, last_ktime_ns = ? WHERE boot = ?",
        (now.unix_ns, now.ktime_ns, boot),
    )


def enter_findings(
    connection: Connection, boot: int, standing: Iterable[Finding], now: Moment
) -> None:
    """Bring the open rows of the boot in line with the findings that stand."""
    there = {
        tuple(map(text_of, key)): number
        for number, *key in connection.execute(
            "SELECT id, address, finding, kind, which FROM findings "
            "WHERE boot = ? AND end_ktime_ns IS NULL",
            (boot,),
        )
    }
    for finding in standing:
        if there.pop(tuple(map(str, key_of(finding))), None) is None:
            _begin_finding(connection, boot, finding, now)
    connection.executemany(
        "UPDATE findings SET end_ktime_ns = ?, end_unix_ns = ? WHERE id = ?",
        [(now.ktime_ns, now.unix_ns, number) for number in there.values()],
    )


def _begin_finding(
    connection: Connection, boot: int, finding: Finding, now: Moment
) -> None:
    address, name, kind, which = key_of(finding)
    connection.execute(
        insert("findings", 13),
        (
            *(None, boot, cell(address), cell(" ".join(finding.also))),
            *(str(name), str(kind), cell(which), cell(finding.text)),
            *(cell(finding.cure), now.ktime_ns, now.unix_ns, None, None),
        ),
    )


def enter_picture(
    connection: Connection, boot: int, document: bytes, unix_ns: int
) -> None:
    """Keep the good picture of the boot instead of the one before.

    It becomes the baseline where there is none, or one of the same kernel.
    """
    connection.execute(
        "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)",
        (boot, unix_ns, document),
    )
    connection.execute(
        f"{_BASELINE_OF_BOOT} AND NOT EXISTS "  # noqa: S608 - a constant
        "(SELECT 1 FROM baseline WHERE baseline.release != boots.release)",
        (boot,),
    )


def accept_picture(connection: Connection, boot: int) -> None:
    """Make the good picture of the boot the baseline, if there is one."""
    connection.execute(_BASELINE_OF_BOOT, (boot,))


_BASELINE_OF_BOOT: Final = (
    "INSERT OR REPLACE INTO baseline "
    "SELECT 1, boot_id, release, pictures.unix_ns, document "
    "FROM pictures JOIN boots USING (boot) WHERE boot = ?"
)
