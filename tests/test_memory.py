"""observer/memory.py: a process of its own is told to be small, and is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAVED = """
import threading
from pathlib import Path
from observer import memory
memory.save()
import hashlib, html, sys
kept = [bytes(100) for _ in range(3)]
def work():
    rest.append([bytes(5000) for _ in range(2000)])
rest = []
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
def kb(name):
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(name): return int(line.split()[1])
before = kb("Rss:")
rest.clear()
memory.give_back()
print(before - kb("Rss:"), kb("AnonHugePages:"), "_hashlib" in sys.modules)
print(hashlib.sha256(b"").hexdigest()[:8], html.escape("<"))
"""


def test_saved() -> None:
    """What threads had goes back, there are no huge pages, and nothing is missing."""
    done = subprocess.run(
        [sys.executable, "-c", SAVED],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    numbers, words = done.stdout.splitlines()
    given_back, huge, openssl = numbers.split()
    assert int(given_back) > 60_000  # of 80 MB
    assert ("0", "False") == (huge, openssl)
    assert "e3b0c442 &lt;" == words
