"""observer/passwords.py: right, wrong or busy, and at what price."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import monotonic, thread_time
from typing import Final

import bcrypt
import pytest

from observer.passwords import Passwords, Verdict

COST: Final = 8
PATIENCE_S = 10.0  # of a test; reached only when it fails


def hashed(password: bytes, cost: int = COST) -> bytes:
    """Return what htpasswd would write."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).replace(b"$2b$", b"$2y$")


def check(
    passwords: Passwords, user: str, password: bytes, source: str = "192.0.2.1"
) -> Verdict:
    """Check with time enough."""
    return passwords.check(user.encode(), password, source, monotonic() + PATIENCE_S)


@pytest.mark.parametrize(
    ("user", "password", "verdict"),
    [
        ("alice", b"one", Verdict.RIGHT),
        ("bob", "zwö".encode(), Verdict.RIGHT),
        ("alice", "zwö".encode(), Verdict.WRONG),
        ("alice", b"", Verdict.WRONG),
        ("alice", b"one\0", Verdict.WRONG),
        ("", b"one", Verdict.WRONG),
        ("carol", b"one", Verdict.WRONG),
        ("carol", "zwö".encode(), Verdict.WRONG),
        ("long", b"x" * 72, Verdict.RIGHT),
        ("long", b"x" * 80, Verdict.RIGHT),
        ("long", b"x" * 71, Verdict.WRONG),
    ],
)
def test_verdict(user: str, password: bytes, verdict: Verdict) -> None:
    """The same the first time and later; bcrypt looks at 72 bytes."""
    passwords = Passwords(
        {
            "alice": hashed(b"one"),
            "bob": hashed("zwö".encode()),
            "long": hashed(b"x" * 72),
        }
    )
    assert [verdict] * 3 == [check(passwords, user, password) for _ in range(3)]


def test_who_was_here_is_known() -> None:
    """A second check costs next to nothing, a wrong one the same as ever."""
    passwords = Passwords({"alice": hashed(b"one", 10)})

    def seconds(password: bytes) -> float:
        started = thread_time()
        check(passwords, "alice", password)
        return thread_time() - started

    first = seconds(b"one")
    assert seconds(b"one") < first / 10
    assert seconds(b"two") > first / 3
    assert seconds(b"one") < first / 10


def test_an_unknown_user_takes_as_long() -> None:
    """Time does not tell who there is, whatever each user's cost is."""
    passwords = Passwords({"alice": hashed(b"one", 7), "bob": hashed(b"one", 7)})

    def seconds(user: str) -> float:
        took = []
        for each in range(15):
            started = thread_time()
            check(passwords, user, b"%d" % each)
            took.append(thread_time() - started)
        return median(took)

    known = seconds("alice")
    assert known / 2 < seconds("carol") < known * 2


def test_an_unknown_user_has_one_cost() -> None:
    """Who asks twice learns no more."""
    passwords = Passwords({"alice": hashed(b"one", 4), "bob": hashed(b"one", 8)})

    def seconds(user: str) -> float:
        started = thread_time()
        check(passwords, user, b"x")
        return thread_time() - started

    for user in ("carol", "dave", "erin"):
        took = sorted(seconds(user) for _ in range(5))
        assert took[3] < took[1] * 4  # of costs 4 and 8 it would be 16


def test_a_hash_that_is_none() -> None:
    """It is refused at once, not at the first request."""
    with pytest.raises(ValueError, match="salt"):
        Passwords({"alice": b"$2b$10$" + b"~" * 53})


def test_few_wait() -> None:
    """One check runs, two of an address wait and four in all; the rest is busy."""
    passwords = Passwords({"alice": hashed(b"one", 12)})
    sources = ["a", "a", "a", "a", "b", "b", "b", "c", "c", "d"]
    with ThreadPoolExecutor(len(sources)) as pool:
        verdicts = [*pool.map(lambda s: check(passwords, "alice", b"x", s), sources)]
    assert {Verdict.WRONG: 5, Verdict.BUSY: 5} == {
        each: verdicts.count(each) for each in verdicts
    }
    of_a = [v for v, s in zip(verdicts, sources, strict=True) if s == "a"]
    assert of_a.count(Verdict.WRONG) <= 3


def test_waiting_ends_with_the_connection() -> None:
    """Who has no more time waits no longer."""
    passwords = Passwords({"alice": hashed(b"one", 13)})
    long = threading.Thread(target=check, args=(passwords, "alice", b"x"))
    long.start()
    started = monotonic()
    while (
        verdict := passwords.check(b"alice", b"y", "b", monotonic() + 0.05)
    ) is not Verdict.BUSY:
        assert monotonic() < started + PATIENCE_S
    assert verdict is Verdict.BUSY
    long.join()


def test_known_ones_do_not_wait() -> None:
    """While others guess, who was here is answered at once."""
    passwords = Passwords({"alice": hashed(b"one", 12)})
    assert check(passwords, "alice", b"one") is Verdict.RIGHT
    stop = threading.Event()

    def guess() -> None:
        while not stop.is_set():
            check(passwords, "alice", b"x")

    guessing = [threading.Thread(target=guess) for _ in range(4)]
    for each in guessing:
        each.start()
    slowest = 0.0
    for _ in range(200):
        started = monotonic()
        assert check(passwords, "alice", b"one") is Verdict.RIGHT
        slowest = max(slowest, monotonic() - started)
    stop.set()
    for each in guessing:
        each.join()
    assert slowest < 1
