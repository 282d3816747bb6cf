"""A decision under every other semantics."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from observer.model.primitives import id_matches
from observer.model.semantics import SEMANTICS, expect
from observer.model.table import table_of
from observer.record import Indeterminate, TableState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.record import Inputs, Outcome

KEPT = 256  # several ask about one decision, and a recording asks again


class _Same:
    """Inputs as a key that equals only itself, for hashing all of them is slow."""

    __slots__ = ("inputs",)

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def __hash__(self) -> int:
        return id(self.inputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.inputs is other.inputs


def differing(slug: str, inputs: Inputs) -> Mapping[str, Outcome]:
    """Return what each semantics answers that does not answer as `slug` does.

    Without a hit and without a driver_override all answer none, and most decisions are
    like that. What can't be told does not differ.
    Raises KeyError when there is no such semantics.
    """
    if inputs.driver_override is None and _no_hit(inputs):
        return {}
    return _differing(slug, _Same(inputs))


@lru_cache(maxsize=KEPT)
def _differing(slug: str, same: _Same) -> Mapping[str, Outcome]:
    inputs = same.inputs
    expected = expect(slug, inputs)
    if isinstance(expected, Indeterminate):
        return {}
    answers = {other: expect(other, inputs) for other in SEMANTICS}
    return {
        other: answer
        for other, answer in answers.items()
        if answer != expected and not isinstance(answer, Indeterminate)
    }


def _no_hit(inputs: Inputs) -> bool:
    driver = inputs.driver
    return (
        driver.table_state is TableState.COMPLETE
        and not table_of(driver.id_table or ()).hits(inputs.device)
        and not any(id_matches(dynid, inputs.device) for dynid in inputs.dynids)
    )
