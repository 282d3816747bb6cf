"""Answers to cases that somebody made up: JSON Lines in, JSON Lines out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.fields import FieldError, Fields
from observer.kernel import VMLINUX_BTF, KernelError, running_layout
from observer.layout import LayoutError
from observer.model import SEMANTICS, why_not_live
from observer.model.explanation import reason_of
from observer.notation import DEVICE_FIELDS, ID_FIELDS, U16, U32, read_id
from observer.record import PCI_ANY_ID, Device, Driver, Id, Inputs, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Options(NamedTuple):
    """By what to answer."""

    semantics: str
    new_id_rules: str


NEW_ID_RULES: Final = ("linux-3.16", "linux-5.11", "linux-7.3")

NEWEST: Final = Options("linux-5.15", "linux-7.3")

_CASE: Final = frozenset({"device", "driver", "driver_override"})
_DRIVER: Final = frozenset({"name", "id_table", "dynids"})
_DEVICE: Final = frozenset(DEVICE_FIELDS)
_ID: Final = frozenset(ID_FIELDS)


class PredictError(ValueError):
    """A line is no case; the message names file, line and field."""


def options(
    semantics: str | None, new_id_rules: str | None, *, btf: str = VMLINUX_BTF
) -> Options:
    """Choose what is not None as given, the rest as the running kernel has it.

    Where that can't be told the newest kernel counts. Raises PredictError when a slug
    is not known.
    """
    if semantics is None or new_id_rules is None:
        running = _running(btf)
        semantics = semantics or running.semantics
        new_id_rules = new_id_rules or running.new_id_rules
    _check("--semantics", semantics, tuple(SEMANTICS))
    _check("--new-id-rules", new_id_rules, NEW_ID_RULES)
    return Options(semantics, new_id_rules)


def _running(btf: str) -> Options:
    try:
        layout = running_layout(btf=btf)
    except (KernelError, LayoutError):
        return NEWEST
    if why_not_live(layout.semantics):
        return NEWEST
    return Options(layout.semantics, layout.new_id_rules)


def _check(option: str, slug: str, known: tuple[str, ...]) -> None:
    if slug not in known:
        raise PredictError(f"{option}: {slug} is not one of {', '.join(known)}")


def answers(name: str, lines: Iterable[bytes], options: Options) -> Iterator[str]:
    """Yield an answer to each line, in order and as soon as it is there.

    Raises PredictError at the first that is no case; `name` is the file's.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield json.dumps(answer(json.loads(line), options))
        except FieldError as error:
            raise PredictError(f"{name}: line {number}: {error}") from None
        except (ValueError, RecursionError):
            raise PredictError(f"{name}: line {number}: not JSON") from None


def answer(case: object, options: Options) -> dict[str, object]:
    """Answer a case, one of writes or one of a match. Raises FieldError."""
    fields = Fields(case)
    if "writes" in fields.all:
        from observer.writes import answer_writes  # noqa: PLC0415

        return answer_writes(fields.all, options.new_id_rules)
    return answer_match(fields, options.semantics)


def answer_match(fields: Fields, slug: str) -> dict[str, object]:
    """Answer what `pci_match_device` does. Raises FieldError."""
    inputs = _inputs(fields.only(_CASE), slug)
    outcome = SEMANTICS[slug].decide(inputs)  # everything is known
    return {
        "semantics": slug,
        "match": outcome.match,
        "index": outcome.index,
        "reason": reason_of(slug, inputs, outcome),
    }


def _inputs(fields: Fields, slug: str) -> Inputs:
    driver = fields.nested("driver").only(_DRIVER)
    id_table = None if driver.value("id_table") is None else _ids(driver, "id_table")
    dynids = _ids(driver, "dynids") if "dynids" in driver.all else ()
    if Source.DYNID not in SEMANTICS[slug].flags:
        _refuse_flags(dynids, slug)
    driver_override = None
    if "driver_override" in fields.all:
        driver_override = fields.text_or_null("driver_override")
    return Inputs(
        _device(fields.nested("device").only(_DEVICE)),
        Driver(0, driver.text("name"), id_table),
        dynids,
        driver_override=driver_override,
    )


def _device(fields: Fields) -> Device:
    """Read a device; without subsystem ids only wildcards match these."""
    return Device(
        fields.integer("vendor", U16, default=0),
        fields.integer("device", U16, default=0),
        fields.integer("subvendor", U16, default=PCI_ANY_ID),
        fields.integer("subdevice", U16, default=PCI_ANY_ID),
        fields.integer("class", U32, default=0),
    )


def _ids(fields: Fields, name: str) -> tuple[Id, ...]:
    return tuple(read_id(each.only(_ID)) for each in fields.nested_list(name))


def _refuse_flags(dynids: tuple[Id, ...], slug: str) -> None:
    for place, dynid in enumerate(dynids):
        if dynid.override_only:
            raise FieldError(
                f"driver.dynids[{place}].override_only: a dynid of {slug} has none"
            )
