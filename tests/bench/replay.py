"""How fast a recording is judged, and how that grows with the machine.

Rates are of `replay` from the open file to all sinks, on one core. What real recordings
repeat is one of ours from a real kernel, its decisions again and again as a driver that
comes and goes makes them.
"""

from __future__ import annotations

import lzma
import math
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rows import Row

from observer.record import Device, Driver, Id, Inputs, Match, Outcome, Source, Task
from observer.recording import Header, Writer
from observer.replay import replay

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
REAL: Final = ROOT / "tests/golden/6.1.0-56-amd64.jsonl.xz"
DECISIONS: Final = 500_000
ROUNDS: Final = 3
SIZES: Final = (50, 100, 200, 400, 800, 1600)
HEADER: Final = Header("6.1.0-56-amd64", "x86_64", {"name": "E"}, "linux-5.15")
PICTURE: Final = ROOT / "docs/pictures/growth.svg"


class Size(NamedTuple):
    """A machine, by how many there are."""

    devices: int = 100
    drivers: int = 50
    entries: int = 20  # of each id_table


def rows() -> Iterator[Row]:
    """Measure rates, and how the time grows with each number."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "recording.jsonl")
        repeat(path)
        yield Row(
            "replay, as real ones repeat", "decisions/s", rate(path), None, 500_000
        )
        record(path, Size(1000, 100))
        yield Row("replay, nothing repeated", "decisions/s", rate(path), None, 20_000)
        curves = {name: grow(path, name) for name in Size._fields}
    for name, curve in curves.items():
        label = f"replay, time grows with {name}, as a power"
        yield Row(label, "exponent", exponent(curve), most=1.1)
    if os.environ.get("UPDATE_PICTURES"):
        plot(curves)


def repeat(path: Path) -> None:
    """Write what a kernel was seen to do, its decisions many times more."""
    lines = lzma.decompress(REAL.read_bytes()).splitlines(keepends=True)
    gone = next(n for n, line in enumerate(lines) if b'"record":"unregister"' in line)
    kept = lines[:gone]  # so that all drivers are known
    matches = [line for line in kept if b'"record":"match"' in line]
    with path.open("wb") as file:
        file.writelines(kept)
        for _ in range(DECISIONS // len(matches)):
            file.writelines(matches)


def record(path: Path, size: Size) -> None:
    """Write each decision of a machine once; one device in eight has a driver."""
    devices = [Device(0x8086, n, 0x1AF4, n, 0x020000) for n in range(size.devices)]
    with Writer(path, HEADER) as writer:
        for number in range(1, size.drivers + 1):
            listed = (Id(0x10EC, entry) for entry in range(size.entries - 1))
            own = Id(0x8086, number * 8)
            driver = Driver(number, f"driver{number}", (*listed, own))
            for place, device in enumerate(devices):
                hit = device.device == own.device
                answer = Outcome(Source.STATIC, size.entries - 1)
                writer.write(
                    Match(
                        *(number * size.devices + place, Task(1, 1, "modprobe", 0)),
                        *(f"0000:{place >> 8:02x}:{place & 0xFF:02x}.0", False),
                        *(
                            Inputs(device, driver),
                            answer if hit else Outcome(Source.NONE),
                        ),
                    )
                )


def seconds(path: Path) -> tuple[float, int]:
    """Return the processor time of a replay, the best of some, and its decisions."""
    best = math.inf
    for _ in range(ROUNDS):
        begin = time.process_time()
        judged = replay(path).books.judgements
        best = min(best, time.process_time() - begin)
    return best, sum(judged.values())


def rate(path: Path) -> float:
    """Return how many decisions a second are judged."""
    spent, decisions = seconds(path)
    return decisions / spent


def grow(path: Path, name: str) -> list[tuple[int, float]]:
    """Return the seconds that a replay takes, by one of the numbers."""
    curve = []
    for size in SIZES:
        record(path, Size()._replace(**{name: size}))
        curve.append((size, seconds(path)[0]))
    return curve


def exponent(curve: list[tuple[int, float]]) -> float:
    """Return the power with which the time grows, between the last four sizes."""
    (first, least), (last, most) = curve[-4], curve[-1]
    return math.log(most / least) / math.log(last / first)


def plot(curves: dict[str, list[tuple[int, float]]]) -> None:
    """Draw all curves beside a line that is linear."""
    import matplotlib as mpl  # noqa: PLC0415 - only here

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "pci-observer"
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, curve in curves.items():
        axes.loglog(*zip(*curve, strict=True), marker="o", label=f"more {name}")
    size, least = SIZES[0], min(curve[0][1] for curve in curves.values())
    axes.loglog(SIZES, [least * s / size for s in SIZES], "k:", label="in proportion")
    axes.set_xlabel("devices, drivers or entries of each id_table")
    axes.set_ylabel("seconds of one core for a replay")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})
