"""A decision under every other semantics."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from observer.model.primitives import id_matches
from observer.model.same import Same
from observer.model.semantics import SEMANTICS, expect
from observer.model.table import table_of
from observer.record import Indeterminate, TableState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.record import Inputs, Outcome

KEPT = 256  # several ask about one decision, and a recording asks again


def differing(slug: str, inputs: Inputs) -> Mapping[str, Outcome]:
    """Return what each semantics answers that does not answer as `slug` does.

    Without a hit and without a driver_override all answer none, and most decisions are
    like that. What can't be told does not differ.
    Raises KeyError when there is no such semantics.
    """
    if inputs.driver_override is None and _no_hit(inputs):
        return {}
    return _differing(slug, Same(inputs))


@lru_cache(maxsize=KEPT)
def _differing(slug: str, same: Same[Inputs]) -> Mapping[str, Outcome]:
    inputs = same.value
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
