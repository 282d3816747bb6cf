"""Wrong answers of a kernel: python -m live.mutants DIRECTORY MODULES, in a guest.

MODULES is where tests/lab/modules.py built cases.ko and mutant.ko. Two observers, one
by each method, see the same decisions, with one mutation after the other.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from live import counters, pci
from live.scenario import (
    LARGE_RING,
    METHODS,
    POLL_SECONDS,
    Result,
    accounted,
    at_rest,
    lost,
    make_calls,
    say,
    settle,
)
from live.watcher import Watcher, WatcherError
from observer import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Metrics = Mapping[str, float]

FAITHFUL: Final = "none"  # a livepatch that answers as the kernel does
MUTATIONS: Final = (
    *("mismatch_ignored", "override_by_prefix", "dynids_ignored", "static_first"),
    *("last_dynid", "last_entry", "flag_ignored", "no_dummy", "early_end"),
    *("mask_ignored", "subvendor_never_any", "device_never_any", "squeezed"),
    *("rfc_2021_06_03", "rfc_2021_06_14", "rfc_2021_06_14_without_c", "copied"),
)
CASES: Final = (
    *("plain", "flagged", "hidden", "twice", "exact", "vendor", "class", "wide"),
    *("empty", "listed", "added"),
)
TESTDEV: Final = ("0x1b36", "0x0005")
EDU: Final = ("0x1234", "0x11e8")
# Hexadecimal; the last number is driver_data, of the table's if there is one.
DYNIDS: Final = (
    ("listed", "1b36 5 ffffffff ffffffff 0 0 b"),
    ("listed", "1b36 5 1af4 1100 0 0 c"),
    ("added", "1b36 5"),
)
OVERRIDES: Final = ("", *(f"case-{case}" for case in CASES), "case-plainer", "nobody")
PROBED: Final = Path("/sys/module/cases/parameters/probed")
PATCH: Final = Path("/sys/kernel/livepatch/mutant")
PORT: Final = 9880
PATCH_SECONDS: Final = 60  # the kernel waits for tasks that it can't be sure of
DRAIN_SECONDS: Final = 120
CALLS: Final = 100_000
MATCHES: Final = 200  # writes that every driver of cases.ko is asked about


class MutantError(Exception):
    """What is to be observed could not be arranged; the message says what."""


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATCH_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise MutantError(f"{what}: not within {PATCH_SECONDS} s")
        time.sleep(0.05)


def done(problem: str) -> None:
    """Go on if there was no problem."""
    if problem:
        raise MutantError(problem)


class Mutants:
    """The livepatch, which is loaded anew for each mutation."""

    def __init__(self, modules: Path) -> None:
        """Find what the livepatch must know of this boot."""
        self._module = modules / "mutant.ko"
        self._dummy = kernel.symbol_address("pci_device_id_any")

    def load(self, mutation: str) -> str:
        """Let all tasks be answered so; return why the kernel refuses it, or ""."""
        words = (f"mutation={mutation}", f"dummy={self._dummy:#x}")
        refused = pci.run("insmod", str(self._module), *words)
        if not refused:
            transition = PATCH / "transition"
            wait(lambda: transition.read_text() == "0\n", f"{mutation} for all tasks")
        return refused

    def unload(self) -> None:
        """Give the kernel its own function back."""
        (PATCH / "enabled").write_text("0")
        wait(lambda: not PATCH.exists(), "no livepatch")
        wait(lambda: not pci.run("rmmod", "mutant"), "the module goes")


def prepare(modules: Path) -> None:
    """Load the drivers with every kind of table, and add dynids."""
    done(pci.run("insmod", str(modules / "cases.ko")))
    for case, text in DYNIDS:
        done(pci.write(f"drivers/case-{case}/new_id", text))


def sweep(address: str) -> None:
    """Have every driver asked about the device, under each override."""
    for override in OVERRIDES:
        done(pci.write(f"devices/{address}/driver_override", f"{override}\n"))
        done(pci.write("drivers_probe", address))
    done(pci.write(f"devices/{address}/driver_override", "\n"))


def grown(before: Metrics, after: Metrics, name: str) -> dict[str, float]:
    """Return by how much the series of a metric grew."""
    return {
        series.removeprefix(name): value - before.get(series, 0)
        for series, value in after.items()
        if series.startswith(f"{name}{{") and value != before.get(series, 0)
    }


def difference(before: Metrics, after: Metrics) -> Result:
    """Tell what one observer saw meanwhile."""
    names = ("divergences_total", "judgements_total", "indeterminate_total")
    found: Result = {name: grown(before, after, name) for name in names}
    return found | {
        "lost": lost(dict(after)) - lost(dict(before)),
        "accounted": accounted(dict(after)) - accounted(dict(before)),
        "emitted": after['events_total{stage="emitted"}']
        - before['events_total{stage="emitted"}'],
        "repeated": after["repeated_decisions_total"]
        - before["repeated_decisions_total"],
    }


class Observers:
    """Observers of the same kernel, by method; a context manager that ends them."""

    def __init__(self, directory: Path) -> None:
        """Keep their logs in a directory."""
        self._directory = directory
        self._port = PORT
        self._exits = ExitStack()
        self.watchers: dict[str, Watcher] = {}

    def start(self, method: str) -> str:
        """Start one; return what its log says if it does not come up, or ""."""
        self._port += 1
        name = f"{method}-{self._port}"
        try:
            watcher = Watcher(
                *("--attach", method, "--log-level", "warning", "--no-state"),
                *("--socket", f"/run/{name}.sock", "--series", "2000", *LARGE_RING),
                port=self._port,
                log=self._directory / f"{name}.log",
            )
        except WatcherError as error:
            return str(error)
        self.watchers[method] = self._exits.enter_context(watcher)
        return ""

    def stop(self, methods: Iterable[str]) -> None:
        """End some of them well."""
        for method in methods:
            self.watchers.pop(method).stop()

    def scrape(self, seconds: float = DRAIN_SECONDS) -> dict[str, dict[str, float]]:
        """Scrape each once it has judged all that the kernel has told it."""
        scraped = {}
        deadline = time.monotonic() + seconds
        for method, watcher in self.watchers.items():
            metrics = watcher.metrics()
            while not at_rest(metrics) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                metrics = watcher.metrics()
            scraped[method] = metrics
        return scraped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()


class Experiment:
    """One guest's worth of mutations."""

    def __init__(self, directory: Path, modules: Path) -> None:
        """Arrange drivers and the device."""
        prepare(modules)
        self.mutants = Mutants(modules)
        by_ids = {pci.ids(address): address for address in pci.devices()}
        self._testdev, self._edu = by_ids[TESTDEV], by_ids[EDU]
        self.observers = Observers(directory)

    def observe(self, act: Callable[[], None]) -> Result:
        """Do something; tell what each observer saw of it, and what came of it."""
        before = self.observers.scrape()
        calls_before, _ = counters.calls()
        PROBED.write_text("\n")  # nothing at all would reach no handler
        act()
        acted = time.monotonic()
        after = self.observers.scrape()
        seconds = time.monotonic() - acted
        calls, missed = counters.calls()
        return {
            "seen": {
                method: difference(before[method], after[method]) for method in after
            },
            "calls": calls - calls_before,
            "missed": missed,
            "probed": PROBED.read_text().split(),
            "scrape_seconds": seconds,
        }

    def swept(self) -> Result:
        """Observe all kinds of decisions."""
        return self.observe(lambda: sweep(self._testdev))

    def mutated(self, mutation: str) -> Result:
        """Observe all kinds of decisions, made so."""
        begin = time.monotonic()
        done(self.mutants.load(mutation))
        loaded = time.monotonic()
        result = self.swept()
        swept = time.monotonic()
        self.mutants.unload()
        end = time.monotonic()
        spent = (loaded - begin, swept - loaded, end - swept)
        say(f"  {mutation}: " + " ".join(f"{seconds:.1f}" for seconds in spent))
        return result

    def many(self) -> Result:
        """Observe more than 100,000 decisions, thousands of which are matches."""
        begin = time.monotonic()
        result = self.observe(self._many)
        say(f"  {result['calls']} calls in {time.monotonic() - begin:.1f} s")
        return result

    def _many(self) -> None:
        for words, number in ((self._edu, CALLS), (self._testdev, 0)):
            each = len(pci.drivers())
            calls = number or MATCHES * each
            made = make_calls("probe", words, each=each, calls=calls)
            done(str(made["error"]))

    def attached_first(self) -> tuple[str, Result]:
        """Attach by fentry, then patch; where that is refused go on by kprobe alone."""
        done(self.observers.start("fentry"))
        refused = self.mutants.load(FAITHFUL)
        if refused:
            self.observers.stop(["fentry"])
            done(self.mutants.load(FAITHFUL))
        self.mutants.unload()
        done(self.observers.start("kprobe"))
        unpatched = self.swept()
        return refused, unpatched

    def patched_first(self, mutation: str) -> Result:
        """Patch, then attach by each method, then by any; unpatch while attached."""
        done(self.mutants.load(mutation))
        refused = {method: self.observers.start(method) for method in METHODS}
        if any(refused.values()):
            refused["auto"] = self.observers.start("auto")
        result = self.swept()
        result["refused"] = refused
        result["hooks"] = {
            method: [
                series
                for series, value in metrics.items()
                if series.startswith("hook_attached{") and value
            ]
            for method, metrics in self.observers.scrape().items()
        }
        self.mutants.unload()
        result["after"] = self.swept()
        self.observers.stop([*self.observers.watchers])
        return result


def main(directory: Path, modules: Path) -> int:
    """Run all of it."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    begin = time.monotonic()
    result: Result = {"release": platform.release()}
    result["layout"] = kernel.running_layout().as_dict()
    counters.start()
    experiment = Experiment(directory, modules)
    with experiment.observers as observers:
        refused, result["unpatched"] = experiment.attached_first()
        result["patch_after_fentry"] = refused
        say(f"  attached, {[*observers.watchers]}: {refused or 'and patched'}")
        done(experiment.mutants.load(FAITHFUL))
        result["faithful"] = experiment.swept()
        result["faithful_many"] = experiment.many()
        experiment.mutants.unload()
        result["mutated"] = {
            mutation: experiment.mutated(mutation) for mutation in MUTATIONS
        }
        result["unpatched_again"] = experiment.swept()
        result["unpatched_many"] = experiment.many()
        settle(next(iter(observers.watchers.values())))
        observers.stop([*observers.watchers])
        result["patched_first"] = experiment.patched_first("mismatch_ignored")
    result["seconds"] = time.monotonic() - begin
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
