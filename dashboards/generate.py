"""Write the dashboards' JSON: python dashboards/generate.py [DIRECTORY]."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from source.fleet import fleet
from source.health import health
from source.host import host

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = Path(__file__).resolve().parent


def numbered(dashboard: Dashboard) -> dict[str, Any]:
    """Return the JSON with an id for each panel, which links go by."""
    encoded: dict[str, Any] = json.loads(JSONEncoder().encode(dashboard))
    for number, panel in enumerate(encoded["panels"], 1):
        panel["id"] = number
    return encoded


def main(directory: Path) -> None:
    """Write all of them."""
    for dashboard in (fleet(), host(), health()):
        text = json.dumps(numbered(dashboard), indent=2, sort_keys=True)
        (directory / f"{dashboard.uid}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
