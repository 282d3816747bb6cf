"""The sizes and numbers of bpf/record.h; tests/test_abi.py compares the two."""

from __future__ import annotations

from struct import Struct

from observer.record import Path, Source, StoreFile

HEAD = Struct("=HHIQQ")  # struct rec_head; the next five begin with it
DRIVER = Struct("=HHIQQ IHBB 64s")  # struct rec_driver up to its entries
MATCH = Struct("=HHIQQ II16s 16s HHHHI hBB BBBxI")  # struct rec_match up to its tail
PROBE = Struct("=HHIQQ II16s 16s i4x Q BB6x 64s")  # struct rec_probe
UNREGISTER = Struct("=HHIQQ 64s")  # struct rec_unregister
WRITE = Struct("=HHIQQ II16s qQQ IBBBx")  # struct rec_write up to its tail
ID = Struct("=6I")  # struct rec_id
ENTRY = Struct("=6I Q I4x")  # struct rec_entry

REGISTRATION = Struct("=QQQQII")  # struct registration of bpf/maps.bpf.h
SETTINGS = Struct("=QQ")  # struct settings, too: digests, pci_device_id_any

NAME_SIZE = 64
OVERRIDE_SIZE = 128
DYNIDS = 32
ENTRIES = 32
TEXT_SIZE = 128
DIGESTS = 32768  # places in the map repeats
DRIVER_SIZE = DRIVER.size + ENTRIES * ENTRY.size
TABLE_SIZE = 0x8000  # places that rec_match.index can name

KIND_DRIVER, KIND_MATCH, KIND_PROBE, KIND_UNREGISTER, KIND_WRITE = range(1, 6)
END_MORE, END_SENTINEL, END_NULL, END_FAULT, END_TRUNCATED = range(5)
DRIVER_HAS_PROBE = 1

MATCH_IS_VIRTFN = 0x01
MATCH_OVERRIDE_CHANGED = 0x02
MATCH_DYNIDS_CHANGED = 0x04
MATCH_DYNIDS_TRUNCATED = 0x08
MATCH_READ_FAULT = 0x10
MATCH_FLAGS = 0x1F

SOURCES = (Source.NONE, Source.STATIC, Source.DYNID, Source.OVERRIDE, Source.UNKNOWN)
FILES = tuple(StoreFile)  # enum rec_file
PATHS = {1: Path.DRIVER_PROBE_DEVICE, 2: Path.DIRECT}
