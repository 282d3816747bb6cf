"""One kernel of each shape: what the text of the BPF programs can differ in."""

from __future__ import annotations

import json
from pathlib import Path

from observer.layout import Layout

_LAYOUTS = Path(__file__).parent / "btf" / "layouts.json"


def all_layouts() -> dict[str, Layout]:
    """Return the layouts of all fixtures by release."""
    rows = json.loads(_LAYOUTS.read_text("ascii"))
    return {release: Layout.from_dict(row) for release, row in rows.items()}


def layouts() -> dict[str, Layout]:
    """Return the first layout of each shape by name.

    The name stands for the members there are and for the number of arguments; the
    probe function goes with L0.
    """
    shapes: dict[str, Layout] = {}
    for layout in all_layouts().values():
        shapes.setdefault(layout.name, layout)
    return shapes
