"""What observer.metrics exports, from the scrape in which every family has samples.

tests/test_metrics.py keeps that file equal to what is rendered.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
PREFIX = "pci_observer_"


class Family(NamedTuple):
    """A metric as its users know it."""

    type: str
    labels: frozenset[str]
    series: frozenset[str]  # names that an expression can use


def families() -> dict[str, Family]:
    """Return each family by its full name, a counter's with its _total."""
    found = {}
    for metric in text_string_to_metric_families(GOLDEN.read_text(encoding="utf-8")):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = {label for sample in metric.samples for label in sample.labels}
        series = frozenset(sample.name for sample in metric.samples)
        found[name] = Family(metric.type, frozenset(labels - {"le"}), series)
    return found
