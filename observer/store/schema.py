"""The tables of the store, as the steps from one version to the next.

Columns have the kernel's names where it has one. Text that is no UTF-8 is a blob.
Numbers of 64 bits are signed, as SQLite's are.
"""

from __future__ import annotations

from typing import Final

_VERSION_1: Final = """
CREATE TABLE boots (
    boot INTEGER PRIMARY KEY,  -- in the order of observation
    boot_id TEXT NOT NULL UNIQUE,
    release TEXT NOT NULL,
    machine TEXT NOT NULL,
    layout TEXT NOT NULL,
    semantics TEXT NOT NULL,
    new_id_rules TEXT NOT NULL,
    version TEXT NOT NULL,  -- of the observer
    first_unix_ns INTEGER NOT NULL,
    last_unix_ns INTEGER NOT NULL,
    first_ktime_ns INTEGER NOT NULL,  -- CLOCK_MONOTONIC, as all ktime_ns
    last_ktime_ns INTEGER NOT NULL
);
CREATE TABLE drivers (  -- by what was known of them
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    decision INTEGER NOT NULL,  -- id of the last that refers to it
    number INTEGER NOT NULL,  -- of the registration
    name TEXT NOT NULL,
    table_state TEXT NOT NULL,
    has_probe INTEGER NOT NULL,
    id_table BLOB  -- JSON, by zlib; null: there is none
);
CREATE INDEX drivers_by_number ON drivers (boot, number);
CREATE INDEX drivers_by_decision ON drivers (decision);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    address TEXT NOT NULL,
    is_virtfn INTEGER NOT NULL,
    vendor INTEGER NOT NULL,
    device INTEGER NOT NULL,
    subvendor INTEGER NOT NULL,
    subdevice INTEGER NOT NULL,
    class INTEGER NOT NULL,
    driver INTEGER NOT NULL,  -- drivers.id
    dynids TEXT,  -- JSON; null: there is none
    dynids_complete INTEGER NOT NULL,
    driver_override TEXT,
    "match" TEXT NOT NULL,
    "index" INTEGER,
    doubts TEXT NOT NULL,  -- words
    judgement TEXT NOT NULL,
    expected_match TEXT,  -- null: indeterminate
    expected_index INTEGER,
    kind TEXT,
    reason TEXT,
    seen TEXT NOT NULL  -- live, boot
);
CREATE TABLE probes (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    address TEXT NOT NULL,
    driver INTEGER NOT NULL,  -- number of the registration
    name TEXT NOT NULL,
    has_probe INTEGER NOT NULL,
    path TEXT NOT NULL,
    result TEXT NOT NULL,
    errno TEXT,
    kind TEXT,
    seen TEXT NOT NULL
);
CREATE INDEX probes_by_address ON probes (address);
CREATE TABLE writes (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    ktime_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    tgid INTEGER NOT NULL,
    comm TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    file TEXT NOT NULL,
    driver TEXT,
    address TEXT,  -- of the device whose file it is
    text TEXT NOT NULL,
    size INTEGER NOT NULL,
    errno TEXT,
    judgement TEXT NOT NULL,
    expected TEXT
);
CREATE TABLE bindings (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    address TEXT NOT NULL,
    vendor INTEGER NOT NULL,
    device INTEGER NOT NULL,
    subvendor INTEGER NOT NULL,
    subdevice INTEGER NOT NULL,
    class INTEGER NOT NULL,
    driver TEXT,
    driver_override TEXT,
    since_ktime_ns INTEGER NOT NULL,
    since_unix_ns INTEGER NOT NULL,
    until_ktime_ns INTEGER,  -- null: it was so when the boot was last observed
    until_unix_ns INTEGER,
    seen INTEGER NOT NULL,  -- 0: found so by a look
    comm TEXT,  -- of who caused it
    tgid INTEGER,
    uid INTEGER
);
CREATE INDEX bindings_by_address ON bindings (address);
CREATE INDEX bindings_now ON bindings (boot) WHERE until_ktime_ns IS NULL;
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    address TEXT NOT NULL,
    also TEXT NOT NULL,  -- words: further addresses
    finding TEXT NOT NULL,
    kind TEXT NOT NULL,
    which TEXT NOT NULL,  -- of several at one address
    text TEXT NOT NULL,
    cure TEXT NOT NULL,
    begin_ktime_ns INTEGER NOT NULL,
    begin_unix_ns INTEGER NOT NULL,
    end_ktime_ns INTEGER,  -- null: it stood when the boot was last observed
    end_unix_ns INTEGER
);
CREATE INDEX findings_now ON findings (boot) WHERE end_ktime_ns IS NULL;
CREATE TABLE pictures (  -- the last good one of each boot
    boot INTEGER PRIMARY KEY,
    unix_ns INTEGER NOT NULL,
    document BLOB NOT NULL  -- of `audit --json`, by zlib
);
CREATE TABLE baseline (  -- at most one row
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id TEXT NOT NULL,
    release TEXT NOT NULL,
    unix_ns INTEGER NOT NULL,
    document BLOB NOT NULL
);
"""

# From version 0, the empty file, to 1 and so on; a step that was released stays as it
# is.
STEPS: Final = (_VERSION_1,)
