"""The whole scenario, in a guest, as root: python -m live.scenario DIRECTORY.

It does, looks and writes down; what is right is for tests/test_live.py to say. Each
part's result goes into DIRECTORY/result.json when the part is over.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from live import counters, pci
from live.steps import STEPS, WRONG_ERA, Run, Step
from live.verified import verified
from live.watcher import Watcher
from observer import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

METHODS: Final = ("fentry", "kprobe")
PORT: Final = 9817
BURST_CALLS: Final = 26_000
MANY_CALLS: Final = 100_000
SMALL_RING_BYTES: Final = 16_384
LARGE_RING: Final = ("--ring-bytes", str(32 << 20))  # for 100,000 decisions
SETTLE_SECONDS: Final = 30
HOPELESS_SECONDS: Final = 2
DRAIN_SECONDS: Final = 180
POLL_SECONDS: Final = 0.25
MISSED_SECONDS: Final = 7  # an exit is taken for missed when it stays away that long
MATCHLOAD: Final = Path(__file__).resolve().parents[2] / "build/lab/matchload"

Result = dict[str, object]


def say(text: str) -> None:
    """Tell the person who waits for the guest."""
    print(f"[{time.monotonic():6.1f}] {text}", flush=True)


def judged(metrics: dict[str, float]) -> float:
    """Sum up the judgements."""
    return sum(v for k, v in metrics.items() if k.startswith("judgements_total"))


def lost(metrics: dict[str, float]) -> float:
    """Sum up the match decisions that were lost."""
    stages = ("reserve", "decode", "queue")
    return sum(metrics[f'events_lost_total{{stage="{stage}"}}'] for stage in stages)


def accounted(metrics: dict[str, float]) -> float:
    """Sum up all calls that the observer knows of."""
    no_entry = 'hooked_calls_total{at="return_without_entry",call="match"}'
    return (
        metrics['events_total{stage="emitted"}']
        + metrics["synthetic_matches_total"]
        + metrics[no_entry]
    )


def at_rest(metrics: dict[str, float]) -> bool:
    """Tell whether all decisions and writes were judged or lost, and no probe runs."""
    probes = [
        metrics[f'hooked_calls_total{{at="{at}",call="probe"}}']
        for at in ("entry", "return")
    ]
    emitted = metrics['events_total{stage="emitted"}']
    written = metrics['hooked_calls_total{at="return",call="write"}']
    writes = sum(v for k, v in metrics.items() if k.startswith("sysfs_writes_total"))
    return (
        probes[0] == probes[1]
        and emitted == judged(metrics) + lost(metrics)
        and written <= writes + metrics['events_lost_total{stage="other"}']
    )


def settle(watcher: Watcher, seconds: float = SETTLE_SECONDS) -> dict[str, float]:
    """Wait until nothing happens any more and all is judged; return the metrics."""
    pci.run("udevadm", "settle", "--timeout=30")
    deadline = time.monotonic() + seconds
    before = (-1, -1)
    while True:
        metrics = watcher.metrics()
        now = counters.calls()
        if now == before and at_rest(metrics):
            return metrics
        if time.monotonic() > deadline:
            say(f"not settled after {seconds:.0f} s")
            return metrics
        before = now
        time.sleep(POLL_SECONDS)


def totals(metrics: dict[str, float]) -> Result:
    """Read every running total, to be compared with the next one."""
    hits, misses = counters.calls()
    return {
        "calls": hits,
        "calls_missed": misses,
        "runs": counters.run_counts(),
        "accounted": accounted(metrics),
        "decisions": metrics['events_total{stage="emitted"}'],
        "synthetic": metrics["synthetic_matches_total"],
        "judged": judged(metrics),
        "metrics": metrics,
    }


def act(step: Step, places: dict[str, str]) -> list[str]:
    """Do what a step says; return what went wrong, "" where nothing did."""
    outcomes = []
    for action in step.actions:
        if isinstance(action, Run):
            outcomes.append(pci.run(*action.command.format(**places).split()))
        else:
            path = action.path.format(**places)
            outcomes.append(pci.write(path, action.text.format(**places)))
    return outcomes


def perform(
    steps: Iterable[Step], watcher: Watcher, places: dict[str, str]
) -> list[Result]:
    """Do all steps; return what was seen after each."""
    seen: list[Result] = []
    patience = SETTLE_SECONDS
    for step in steps:
        begin = time.monotonic()
        counts = {"devices": len(pci.devices()), "drivers": len(pci.drivers())}
        outcomes = act(step, places)
        metrics = settle(watcher, patience)
        if not at_rest(metrics):  # the books will not balance any more
            patience = HOPELESS_SECONDS
        bound = bound_after(step, places)
        seen.append(
            {
                "name": step.name,
                "outcomes": outcomes,
                "bound": bound,
                "counts_before": counts,
                **totals(metrics),
            }
        )
        say(f"  {step.name}: {bound} in {time.monotonic() - begin:.1f} s")
    return seen


def bound_after(step: Step, places: dict[str, str]) -> dict[str, str | None]:
    """Return what is bound, once it is what it must be, or does not become so.

    The nvme driver has a virtual function, finds it dead and gives it up.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        bound = {role: pci.driver_of(places[role]) for role in step.bound}
        if bound == step.bound or time.monotonic() > deadline:
            return bound
        time.sleep(POLL_SECONDS)


def make_calls(*words: str, each: int, calls: int = BURST_CALLS) -> Result:
    """Have so many calls made as fast as the kernel can."""
    number = -(-calls // each)
    begin = time.monotonic()
    done = subprocess.run(
        [MATCHLOAD, *words, str(number)], capture_output=True, text=True, check=False
    )
    return {
        "error": done.stderr,
        "expected_calls": number * each,
        "seconds": time.monotonic() - begin,
    }


def burst(watcher: Watcher, *words: str, each: int) -> Result:
    """Make many calls and wait until each is judged."""
    before = totals(settle(watcher))
    begin = time.monotonic()
    made = make_calls(*words, each=each)
    after = totals(settle(watcher, DRAIN_SECONDS))
    drained = time.monotonic() - begin
    say(f"  {made['expected_calls']} calls by {words[0]} judged in {drained:.1f} s")
    return made | {"drain_seconds": drained, "before": before, "after": after}


def left_behind(before: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what was not there before, once the kernel had time to clean up."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = counters.traces()
        more = {
            kind: [item for item in now[kind] if item not in before[kind]]
            for kind in now
        }
        if not any(more.values()) or time.monotonic() > deadline:
            return more
        time.sleep(POLL_SECONDS)


class Scenario:
    """The parts, in order; each gives a result."""

    def __init__(self, directory: Path) -> None:
        """Prepare the machine."""
        self.directory = directory
        self.places = pci.addresses()
        self.before = counters.traces()
        self.port = PORT

    def watch(self, name: str, *arguments: str) -> Watcher:
        """Start an observer that keeps a recording and a log under this name."""
        self.port += 1
        recording = self.directory / f"{name}.jsonl.gz"
        return Watcher(
            *("--record", str(recording), *arguments),
            port=self.port,
            log=self.directory / f"{name}.log",
        )

    def observe(self, method: str) -> Result:
        """All steps, two bursts, the state of the process, its sudden end."""
        before = counters.traces()
        with self.watch(method, "--attach", method) as watcher:
            say(f"  attached in {watcher.attach_seconds:.1f} s")
            result: Result = {
                "attach_seconds": watcher.attach_seconds,
                "state_at_start": watcher.state(),
                "start": totals(settle(watcher)),
            }
            result["steps"] = perform(STEPS, watcher, self.places)
            result["steps_end_ns"] = time.monotonic_ns()
            result["state_at_rest"] = watcher.state()
            result["attached"] = counters.traces()
            result |= self.bursts(watcher, method)
            result["state_after_bursts"] = watcher.state()
            time.sleep(MISSED_SECONDS)
            result["end"] = totals(watcher.metrics())
            watcher.kill()
        result["left_behind"] = left_behind(before)
        return result

    def bursts(self, watcher: Watcher, method: str) -> Result:
        """Both ways to make many calls; the second by one method, to save time."""
        pci.run("modprobe", "pci-stub")
        words = ("newid", "pci-stub")
        result: Result = {"newid": burst(watcher, *words, each=len(pci.devices()))}
        if method == METHODS[-1]:
            words = ("probe", self.places["edu"])
            result["probe"] = burst(watcher, *words, each=len(pci.drivers()))
        pci.run("modprobe", "-r", "pci-stub")
        settle(watcher)
        return result

    def wrong_era(self) -> Result:
        """Judge by what another kernel would do."""
        own = kernel.running_layout().semantics
        wrong = "linux-3.16" if own == "linux-5.15" else "linux-5.15"
        with self.watch("wrong_era", "--semantics", wrong) as watcher:
            steps = perform(WRONG_ERA, watcher, self.places)
            return {"semantics": wrong, "steps": steps, "stopped": watcher.stop()}

    def small_ring(self) -> Result:
        """Make more calls than the ring takes, and bind a device meanwhile."""
        arguments = ("--ring-bytes", str(SMALL_RING_BYTES), "--attach", "kprobe")
        with self.watch("small_ring", *arguments) as watcher:
            pci.run("modprobe", "pci-stub")
            before = totals(settle(watcher))
            stop = threading.Event()
            bound: list[str | None] = []
            binder = threading.Thread(target=self._keep_binding, args=(stop, bound))
            binder.start()
            result = make_calls("newid", "pci-stub", each=len(pci.devices()))
            stop.set()
            binder.join()
            result |= {"before": before, "after": totals(settle(watcher))}
            pci.run("modprobe", "-r", "pci-stub")
            settle(watcher)
            return result | {"bound": bound, "stopped": watcher.stop()}

    def _keep_binding(self, stop: threading.Event, bound: list[str | None]) -> None:
        """Bind and unbind a device: a probe whose match is lost is no finding."""
        edu = self.places["edu"]
        pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
        while not stop.is_set():
            pci.write("drivers_probe", edu)
            bound.append(pci.driver_of(edu))
            pci.write("drivers/pci-stub/unbind", edu)
        pci.write(f"devices/{edu}/driver_override", "\n")

    def both(self) -> Result:
        """Observe the same by two at once, one of which counts what repeats."""
        with (
            self._beside("folded") as folded,
            self._beside("whole", "--every-decision", *LARGE_RING) as whole,
        ):
            watchers = {"folded": folded, "whole": whole}
            before = {name: totals(settle(each)) for name, each in watchers.items()}
            steps = perform(STEPS, folded, self.places)
            pci.run("modprobe", "vfio-pci")
            vfio = {name: totals(settle(each)) for name, each in watchers.items()}
            pci.run("modprobe", "-r", "vfio-pci")
            # Each write asks all drivers, and is a record itself.
            made = make_calls(
                *("probe", self.places["edu"]),
                each=len(pci.drivers()),
                calls=MANY_CALLS,
            )
            return {
                "steps": len(steps),
                "made": made,
                "before": before,
                "vfio": vfio,
                "after": {
                    name: totals(settle(each, DRAIN_SECONDS))
                    for name, each in watchers.items()
                },
            }

    def _beside(self, name: str, *arguments: str) -> Watcher:
        self.port += 1
        socket = ("--socket", f"/run/{name}.sock")
        options = ("--no-state", "--series", "2000", *socket, *arguments)
        log = self.directory / f"{name}.log"
        return Watcher(*options, port=self.port, log=log)

    def programs(self) -> Result:
        """Load what came along, and what bcc makes here; return the kernel's tags."""
        tags: Result = {"verified": verified()}
        for method in METHODS:
            for how, arguments in (("shipped", ()), ("compiled", ("--compile",))):
                name = f"{method} {how}"
                with self._beside(
                    name.replace(" ", "-"), "--attach", method, *arguments
                ):
                    tags[name] = counters.tags()
        return tags

    def direct(self, name: str, *arguments: str) -> Result:
        """Attach with arguments that the command does not offer."""
        command = [sys.executable, "-m", "live.direct", str(self.directory), name]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return {"error": done.stderr}
        result: Result = json.loads(done.stdout)
        return result

    def broken_snapshot(self) -> Result:
        """Make every decision look as if made in a race."""
        return self.direct(
            "broken_snapshot", "--no-digests", "--define", "BREAK_SNAPSHOT"
        )

    def short_tables(self) -> Result:
        """Carry 32 entries of each id_table and no more."""
        return self.direct("short_tables", "--no-digests", "--table-chunks", "1")

    def few_digests(self) -> Result:
        """Tell only eight decisions apart."""
        return self.direct("few_digests", "--define", "DIGESTS_USED=8")


def main(directory: Path) -> int:
    """Run all parts; a part that breaks is no reason to skip the next."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    counters.start()
    scenario = Scenario(directory)
    parts: dict[str, Callable[[], Result]] = {
        "fentry": lambda: scenario.observe("fentry"),
        "kprobe": lambda: scenario.observe("kprobe"),
        "wrong_era": scenario.wrong_era,
        "small_ring": scenario.small_ring,
        "broken_snapshot": scenario.broken_snapshot,
        "short_tables": scenario.short_tables,
        "few_digests": scenario.few_digests,
        "both": scenario.both,
        "programs": scenario.programs,
    }
    results: dict[str, Result] = {}
    for name, part in parts.items():
        begin = time.monotonic()
        say(f"{name} on {platform.release()}")
        try:
            results[name] = part()
        except Exception as error:  # noqa: BLE001 - it is written down
            say(f"  {type(error).__name__}: {error}")
            results[name] = {"error": f"{type(error).__name__}: {error}"}
        results[name]["seconds"] = time.monotonic() - begin
        whole = {"release": platform.release(), "parts": results}
        whole["preemption"] = counters.preemption()
        text = json.dumps(whole | {"places": scenario.places})
        (directory / "result.json").write_text(text)
        say(f"{name} took {results[name]['seconds']:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
