"""What a host of the fleet exposes at a time, as its daemon would.

Names, help, types and all fixed label sets are taken from what observer.metrics
renders; what the scenario knows is put in their place.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from fleet.scenario import AFTER, BEFORE, DRIVERS, JOB, RAID
from observer.books import Books
from observer.disagreement import Field
from observer.machine import Machine
from observer.metrics import About, Metrics, State
from observer.ring import Counters
from observer.series import gauges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleet.scenario import Fleet

Labels = tuple[tuple[str, str], ...]  # sorted
Sample = tuple[str, Labels]
P: Final = "pci_observer_"

# All that the fleet's dashboard, the rules and the alerts ask for.
OF_THE_FLEET: Final = frozenset(
    P + name
    for name in (
        *("kernel_info", "build_info", "devices", "device_change_info", "findings"),
        *("device_finding", "divergences_total", "events_lost_total", "hooks_missing"),
        *("store_degraded", "alive_timestamp_seconds", "device_driver_info"),
    )
)


class Family:
    """A metric as a daemon tells it."""

    def __init__(self, name: str, kind: str, text: str) -> None:
        """Name it as in the text format, a counter with its _total."""
        self.name, self.kind, self.text = name, kind, text

    def head(self, *, openmetrics: bool) -> str:
        """Return the lines that come before the samples."""
        name = self.name.removesuffix("_total") if openmetrics else self.name
        return f"# HELP {name} {self.text}\n# TYPE {name} {self.kind}\n"


@cache
def idle() -> tuple[dict[str, Family], dict[Sample, float]]:
    """Return the families and the samples of a daemon that saw nothing."""
    machine = Machine(
        release="",
        layout="",
        semantics="linux-5.15",
        new_id_rules="linux-7.3",
        drivers_autoprobe=True,
        drivers={},
        order_known=True,
        devices={},
        gaps=(),
        now_ns=0,
        realtime_offset_ns=0,
    )
    empty = gauges(machine, (), ())
    state = State(Counters(), 0, 0, {}, {}, gauges=tuple(empty))
    state = state._replace(disagreements=dict.fromkeys(Field, 0))
    metrics = Metrics(Books(), lambda: state, About("0", "", "", "", 0))
    families, samples = {}, {}
    text = metrics.render("")[0].decode()
    for metric in text_string_to_metric_families(text):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        families[name] = Family(name, metric.type, metric.documentation)
        for each in metric.samples:
            samples[each.name, tuple(sorted(each.labels.items()))] = 0.0
    return families, samples


def family_of(name: str) -> str:
    """Return the family of a sample: a histogram's samples have names of their own."""
    for suffix in ("_bucket", "_sum", "_count"):
        family = name.removesuffix(suffix)
        if family in idle()[0]:
            return family
    return name


def _at(name: str, **labels: str) -> Sample:
    return P + name, tuple(sorted(labels.items()))


def samples(fleet: Fleet, host: int, time: int) -> dict[Sample, float]:
    """Return all samples of a host that answers."""
    drop = ("kernel_info", "build_info", "binding_fingerprint_info", "devices")
    dropped = {P + name for name in drop}
    found = {key: v for key, v in idle()[1].items() if key[0] not in dropped}
    found |= _about(fleet, host, time)
    found |= _devices(fleet, host, time)
    found |= _findings(fleet, host, time)
    found |= _decisions(fleet, host, time)
    found[_at("series_limit")] = 300.0
    found[_at("series")] = float(len(found))
    return found


def _about(fleet: Fleet, host: int, time: int) -> dict[Sample, float]:
    release = fleet.release(host, time)
    layout = "E" if release == BEFORE else "B"
    cpu_seconds = (time - fleet.started_at(host, time)) / 2000
    missing = fleet.hooks_missing(host, time)
    found = {
        _at("kernel_info", release=release, semantics="linux-5.15", layout=layout): 1,
        _at("build_info", version="0.1.0"): 1,
        _at("binding_fingerprint_info", fingerprint=f"{host % 7:016x}"): 1,
        _at("observing_since_timestamp_seconds"): fleet.started_at(host, time),
        _at("alive_timestamp_seconds"): time - 1,
        _at("hooks_missing"): missing,
        _at("hook_attached", hook="pci_match_device", method="fentry"): 1,
        _at("hook_attached", hook="bind_store", method="kprobe"): 1 - missing,
        _at("store_up"): not fleet.store_degraded(host, time),
        _at("store_degraded"): fleet.store_degraded(host, time),
        _at("store_bytes"): 8 << 20,
        _at("bindings_before_observing"): fleet.devices // 2,
        ("process_resident_memory_bytes", ()): (30 + host % 5) << 20,
        ("process_cpu_seconds_total", ()): cpu_seconds,
    }
    if release == AFTER:
        found[_at("baseline_info", release=BEFORE)] = 1
    return {sample: float(value) for sample, value in found.items()}


def _devices(fleet: Fleet, host: int, time: int) -> dict[Sample, float]:
    found: dict[Sample, float] = {}
    for device in fleet.machine(host, time):
        kind, regression = device.kind, device.regression
        ids = {"vendor_id": kind.vendor_id, "device_id": kind.device_id}
        if device.there:
            alike = _at("devices", **ids, driver=device.driver)
            found[alike] = found.get(alike, 0.0) + 1
            info = {
                **ids,
                "address": device.address,
                "class_id": kind.class_id,
                "driver": device.driver,
                "driver_override": kind.driver_override,
            }
            found[_at("device_driver_info", **info)] = 1.0
        if regression is not None:
            changed = {
                **ids,
                "address": device.address,
                "change": regression.change,
                "driver_before": kind.driver,
                "driver": device.driver,
            }
            found[_at("device_change_info", **changed)] = 1.0
    found[_at("driver_dynids", driver="vfio-pci")] = float(host % 3 + 1)
    return found


def _findings(fleet: Fleet, host: int, time: int) -> dict[Sample, float]:
    found: dict[Sample, float] = {}
    for address, finding in fleet.findings(host, time):
        found[_at("device_finding", address=address, finding=finding)] = 1.0
        count = _at("findings", finding=finding)
        found[count] = found.get(count, 0.0) + 1
    return found


def _decisions(fleet: Fleet, host: int, time: int) -> dict[Sample, float]:
    """Tell what was decided, probed and written, so that the books balance."""
    rounds, devices = fleet.decisions(host, time), len(fleet.machine(host, time))
    diverged, lost = fleet.divergences(host, time), fleet.lost(host, time)
    found: dict[Sample, float] = {}
    matches = 0
    for driver in DRIVERS:
        bound = sum(d.driver == driver for d in fleet.machine(host, time))
        matches += bound
        found |= {
            _at("match_decisions_total", driver=driver, result="static"): bound
            * rounds,
            _at("match_decisions_total", driver=driver, result="none"): (
                (devices - bound) * rounds
            ),
            _at("probe_results_total", driver=driver, result="bound"): bound * rounds,
        }
        found |= _histogram("probe_duration_seconds", bound * rounds, driver=driver)
    judged = len(DRIVERS) * devices * rounds
    kind = {"driver": RAID.driver, "kind": "different_entry"}
    found |= _histogram("event_lag_seconds", judged)
    found |= {
        _at("events_total", stage="emitted"): judged + lost,
        _at("events_total", stage="received"): judged,
        _at("events_total", stage="decoded"): judged,
        _at("events_lost_total", stage="reserve"): lost,
        _at("judgements_total", judgement="agree"): judged - diverged,
        _at("judgements_total", judgement="diverge"): diverged,
        _at("boot_decisions_total", judgement="agree"): devices,
        _at("what_if_devices", semantics="linux-3.16"): host % 2,
        _at("sysfs_writes_total", file="driver_override", judgement="agree"): rounds,
        _at("store_rows_total", stage="offered"): judged,
        _at("store_rows_total", stage="written"): judged,
        **{
            _at("hooked_calls_total", call=call, at=at): judged
            for call in ("match",)
            for at in ("entry", "return")
        },
    }
    if diverged:
        found[_at("divergences_total", **kind)] = diverged
    return {sample: float(value) for sample, value in found.items()}


def _histogram(name: str, count: int, **labels: str) -> dict[Sample, float]:
    """Say that nine of ten took less than 0.01 s and one less than 0.1 s."""
    found: dict[Sample, float] = {
        _at(f"{name}_bucket", **labels, le=bound): float(count)
        for bound in ("0.1", "1.0", "10.0", "+Inf")
    }
    found[_at(f"{name}_bucket", **labels, le="0.01")] = float(count * 9 // 10)
    found[_at(f"{name}_count", **labels)] = float(count)
    found[_at(f"{name}_sum", **labels)] = count * 0.01
    return found


def escaped(value: str) -> str:
    """Spell a label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def spelled(sample: Sample, more: Mapping[str, str] | None = None) -> str:
    """Spell a sample's name and labels, those of its target as well."""
    name, labels = sample
    pairs = [*labels, *(more or {}).items()]
    inside = ",".join(f'{label}="{escaped(value)}"' for label, value in pairs)
    return f"{name}{{{inside}}}" if inside else name


def exposition(fleet: Fleet, host: int, time: int) -> str:
    """Return what a scrape gets."""
    families = idle()[0]
    by_family: dict[str, list[tuple[Sample, float]]] = {}
    for sample, value in samples(fleet, host, time).items():
        by_family.setdefault(family_of(sample[0]), []).append((sample, value))
    lines = []
    for name, family in families.items():
        lines.append(family.head(openmetrics=False))
        lines += (f"{spelled(s)} {v}\n" for s, v in by_family.get(name, ()))
    return "".join(lines)


def series(
    fleet: Fleet, host: int, only: frozenset[str] | None = None
) -> dict[Sample, list[tuple[int, float]]]:
    """Return each series of a host with its samples, `up` of its scrapes as well."""
    found: dict[Sample, list[tuple[int, float]]] = {}
    up = found[("up", ())] = []
    for time in fleet.times:
        silent = fleet.silent(host, time)
        up.append((time, float(not silent)))
        if not silent:
            for sample, value in samples(fleet, host, time).items():
                if only is None or family_of(sample[0]) in only:
                    found.setdefault(sample, []).append((time, value))
    return found


def target(fleet: Fleet, host: int) -> dict[str, str]:
    """Return the labels that Prometheus gives a host's series."""
    return {"job": JOB, "instance": fleet.instance(host)}


def openmetrics(fleet: Fleet, only: frozenset[str] | None = None) -> Iterator[str]:
    """Yield the whole history for `promtool tsdb create-blocks-from openmetrics`.

    That wants each family in one piece, so all is held in memory.
    """
    pieces: dict[str, list[str]] = {}
    for host in range(fleet.hosts):
        labels = target(fleet, host)
        for sample, points in series(fleet, host, only).items():
            name = spelled(sample, labels)
            lines = "".join(f"{name} {value} {time}\n" for time, value in points)
            pieces.setdefault(family_of(sample[0]), []).append(lines)
    yield "# TYPE up gauge\n"
    yield from pieces.pop("up")
    for name, family in idle()[0].items():
        if name in pieces:
            yield family.head(openmetrics=True)
            yield from pieces[name]
    yield "# EOF\n"


def imported(fleet: Fleet, only: frozenset[str] | None = None) -> Iterator[str]:
    """Yield the whole history for VictoriaMetrics' /api/v1/import/prometheus."""
    for host in range(fleet.hosts):
        labels = target(fleet, host)
        for sample, points in series(fleet, host, only).items():
            name = spelled(sample, labels)
            yield "".join(f"{name} {value} {time}000\n" for time, value in points)
