"""Exact counts of pci_match_device() calls that owe nothing to the observer's code."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

TRACING: Final = Path("/sys/kernel/tracing")
KPROBES: Final = Path("/sys/kernel/debug/kprobes/list")
EVENT: Final = "p:lab/m pci_match_device"
ATTEMPTS: Final = 10
# As the kernel keeps the names of our programs: 15 characters.
PROGRAMS: Final = ("enter_pci_match", "leave_pci_match")


def start() -> None:
    """Let the kernel count every call by a kprobe of its own, and runs of programs."""
    # Opened for appending by Python, the file would be sought, which it refuses.
    events = os.open(TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(events, f"{EVENT}\n".encode())
    finally:
        os.close(events)
    (TRACING / "tracing_on").write_text("0")
    (TRACING / "events/lab/m/enable").write_text("1")
    Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1")


def calls() -> tuple[int, int]:
    """Return how many calls there were, and how many of them the kprobe missed."""
    for line in (TRACING / "kprobe_profile").read_text().splitlines():
        name, hits, misses = line.split()
        if name == "m":
            return int(hits), int(misses)
    raise LookupError("kprobe_profile has no event m")


def bpftool(*words: str) -> list[dict[str, Any]]:
    """Ask bpftool for a list; it fails where something goes while it counts."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            ["bpftool", "-j", *words], capture_output=True, check=False, text=True
        )
        if done.returncode == 0:
            return json.loads(done.stdout or "[]") or []
        time.sleep(0.2)
    raise OSError(f"bpftool {' '.join(words)}: {done.stderr or done.stdout}")


def tags() -> dict[str, str]:
    """Return the kernel's hash of each of the observer's programs, by its name."""
    return {
        program["name"]: program["tag"]
        for program in bpftool("prog", "show")
        if program.get("name", "").startswith(("enter_", "leave_"))
    }


def run_counts() -> dict[str, tuple[int, int]]:
    """Return how often each of the observer's match programs ran, and was skipped.

    A trampoline skips a program that is under way on the same CPU: its task was
    preempted inside. That can't happen to kprobes, nor where nothing preempts.
    """
    return {
        program["name"]: (program.get("run_cnt", 0), program.get("recursion_misses", 0))
        for program in bpftool("prog", "show")
        if program.get("name") in PROGRAMS
    }


def preemption() -> str:
    """Return how this kernel preempts itself: none, voluntary, full or lazy."""
    try:
        modes = Path("/sys/kernel/debug/sched/preempt").read_text().split()
    except FileNotFoundError:  # decided when it was built
        return "full" if " PREEMPT " in os.uname().version else "none"
    return next(mode for mode in modes if mode.startswith("(")).strip("()")


def traces() -> dict[str, list[str]]:
    """List what is attached or loaded now; the same before and after, or it is ours."""
    return loaded() | {
        "kprobe_events": (TRACING / "kprobe_events").read_text().splitlines(),
        "kprobes": KPROBES.read_text().splitlines(),
    }


def loaded() -> dict[str, list[str]]:
    """List what bpf(2) knows; it tells also where tracefs is locked."""
    return {
        "programs": _names("prog"),
        "maps": _names("map"),
        "links": _names("link"),
    }


def _names(kind: str) -> list[str]:
    return [
        f"{item.get('type')} {item.get('name', '')} {item['id']}"
        for item in bpftool(kind, "show")
    ]
