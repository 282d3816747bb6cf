"""observer/recording.py, notation.py, fields.py: what a recording keeps and refuses."""

from __future__ import annotations

import gzip
import json
import lzma
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import records

from observer.fields import FieldError, Fields
from observer.pipeline import Pipeline
from observer.pointers import HIDDEN_POINTERS, KERNEL_POINTERS, hide_pointers
from observer.record import (
    Action,
    Device,
    Driver,
    Id,
    Inputs,
    Loss,
    LossStage,
    Match,
    Observation,
    Outcome,
    Probe,
    ProbeResult,
    Reason,
    Record,
    Seen,
    Source,
    StoreFile,
    TableState,
    Task,
    Uevent,
    Unregister,
    Write,
)
from observer.record import Path as ProbePath
from observer.recording import (
    BATCH,
    Header,
    Recording,
    RecordingError,
    Writer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEADER = Header("6.1.0-56-amd64", "x86_64", {"args": 3}, "linux-5.15")
TASK = Task(pid=7, tgid=6, comm="modprobe", cpu=1)
DRIVER = Driver(1, "e1000", (Id(0x8086, 0x100E), Id(0x8086, 0x100F, 1, 2, 3, 4, 5, 1)))
MATCH = Match(
    ktime_ns=5,
    task=TASK,
    address="0000:00:02.0",
    is_virtfn=True,
    inputs=Inputs(
        Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000), DRIVER, (Id(1, 2),), True, "x"
    ),
    outcome=Outcome(Source.STATIC, 0),
    doubts=(Reason.DYNIDS_CHANGED,),
)
PROBE = Probe(
    ktime_ns=9,
    duration_ns=4,
    task=TASK,
    address="0000:00:02.0",
    driver=1,
    name="e1000",
    has_probe=True,
    path=ProbePath.DIRECT,
    result=ProbeResult.REFUSED,
    errno="EIO",
)
GONE = Unregister(9, 1, "e1000")
LOSS = Loss(1, 9, LossStage.RESERVE, 3)
WRITE = Write(
    ktime_ns=11,
    duration_ns=2,
    task=Task(7, 6, "sh", 1),
    uid=1000,
    file=StoreFile.NEW_ID,
    driver="pci-stub",
    address=None,
    text="8086 10f5\n\udcff",
    size=11,
    errno="EEXIST",
)
UEVENT = Uevent(12, Action.BIND, "0000:00:02.0", None)
ALL: list[Record] = [DRIVER, MATCH, PROBE, WRITE, UEVENT, LOSS, GONE]


def write(path: Path, fed: Iterable[Record], header: Header = HEADER) -> None:
    """Write a recording."""
    with Writer(path, header) as writer:
        for record in fed:
            writer.write(record)


def read(path: Path) -> list[Record]:
    """Read a recording that is whole."""
    with Recording(path) as recording:
        found = list(recording)
        assert not recording.truncated
        return found


def lines(path: Path) -> list[dict[str, object]]:
    """Return the lines of a recording."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.xz"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    """Every kind of record comes back, compressed or not, and the header."""
    path = tmp_path / name
    write(path, ALL)
    assert read(path) == ALL
    with Recording(path) as recording:
        assert recording.header == HEADER


def test_compression_goes_by_the_name(tmp_path: Path) -> None:
    """What other programs expect of a suffix is what they get."""
    plain, gz, xz = tmp_path / "r", tmp_path / "r.gz", tmp_path / "r.xz"
    for path in (plain, gz, xz):
        write(path, ALL)
    assert gzip.decompress(gz.read_bytes()) == plain.read_bytes()
    assert lzma.decompress(xz.read_bytes()) == plain.read_bytes()


def test_contract(tmp_path: Path) -> None:
    """The lines have the shape that contracts.md gives them."""
    path = tmp_path / "r"
    write(path, [MATCH])
    header, driver, match = lines(path)
    assert {
        "format": "pci-observer-recording",
        "version": 1,
        "kernel": {"release": "6.1.0-56-amd64", "machine": "x86_64"},
        "layout": {"args": 3},
        "semantics": "linux-5.15",
    } == header
    assert {
        "record": "driver",
        "number": 1,
        "name": "e1000",
        "id_table": [
            {
                "vendor": 32902,
                "device": 4110,
                "subvendor": 4294967295,
                "subdevice": 4294967295,
                "class": 0,
                "class_mask": 0,
                "driver_data": 0,
                "override_only": 0,
            },
            {
                "vendor": 32902,
                "device": 4111,
                "subvendor": 1,
                "subdevice": 2,
                "class": 3,
                "class_mask": 4,
                "driver_data": 5,
                "override_only": 1,
            },
        ],
        "table_state": "complete",
        "has_probe": True,
    } == driver
    assert {
        "vendor": 32902,
        "device": 4110,
        "subvendor": 6900,
        "subdevice": 4352,
        "class": 131072,
    } == match.pop("device")
    assert len(match.pop("dynids")) == 1  # type: ignore[arg-type]
    assert {
        "record": "match",
        "ktime_ns": 5,
        "pid": 7,
        "tgid": 6,
        "comm": "modprobe",
        "cpu": 1,
        "address": "0000:00:02.0",
        "is_virtfn": True,
        "driver": 1,
        "name": "e1000",
        "dynids_complete": True,
        "driver_override": "x",
        "match": "static",
        "index": 0,
        "doubts": ["dynids_changed"],
        "seen": "live",
    } == match


def test_recordings_of_before(tmp_path: Path) -> None:
    """A match or a probe that does not say where it was seen is a live one."""
    path = tmp_path / "r"
    boot = [each._replace(seen=Seen.BOOT) for each in (MATCH, PROBE)]
    write(path, [MATCH.inputs.driver, *boot])
    assert boot == read(path)[1:]
    path.write_text(path.read_text().replace(',"seen":"boot"', ""))
    assert [MATCH, PROBE] == read(path)[1:]


def test_write_and_uevent(tmp_path: Path) -> None:
    """Who wrote stands beside what was written; a uevent has all its fields."""
    path = tmp_path / "r"
    write(path, [WRITE, UEVENT])
    assert [
        {
            "record": "write",
            "ktime_ns": 11,
            "duration_ns": 2,
            "uid": 1000,
            "file": "new_id",
            "driver": "pci-stub",
            "address": None,
            "text": "8086 10f5\n\udcff",
            "size": 11,
            "errno": "EEXIST",
            "pid": 7,
            "tgid": 6,
            "comm": "sh",
            "cpu": 1,
        },
        {
            "record": "uevent",
            "ktime_ns": 12,
            "action": "bind",
            "address": "0000:00:02.0",
            "driver": None,
        },
    ] == lines(path)[1:]


def test_driver_is_sent_once(tmp_path: Path) -> None:
    """A driver stands before its first match, whoever sends it, and not again."""
    path = tmp_path / "r"
    write(path, [MATCH, MATCH, GONE, MATCH])
    assert read(path) == [DRIVER, MATCH, MATCH, GONE, DRIVER, MATCH]


def test_driver_that_becomes_known(tmp_path: Path) -> None:
    """A match has its driver as it was known then, not as it was known later."""
    path = tmp_path / "r"
    prefix = DRIVER._replace(
        id_table=(Id(0x8086, 0x100E),), table_state=TableState.UNKNOWN
    )
    early = MATCH._replace(inputs=MATCH.inputs._replace(driver=prefix))
    write(path, [early, DRIVER, MATCH])
    assert read(path) == [prefix, early, DRIVER, MATCH]


def test_unknown_driver_needs_no_line(tmp_path: Path) -> None:
    """A driver of which only the name is known stands in the match alone."""
    path = tmp_path / "r"
    unknown = Driver(0, "e1000", None, TableState.UNKNOWN)
    match = MATCH._replace(inputs=MATCH.inputs._replace(driver=unknown))
    write(path, [match])
    assert read(path) == [match]


def test_driver_that_went_away(tmp_path: Path) -> None:
    """After its unregistration a driver's line says nothing of its number."""
    path = tmp_path / "r"
    unknown = Driver(1, "e1000", None, TableState.UNKNOWN)
    late = MATCH._replace(inputs=MATCH.inputs._replace(driver=unknown))
    write(path, [DRIVER, GONE, late])
    assert read(path) == [DRIVER, GONE, late]


@given(st.lists(records, max_size=12))
def test_any_records_round_trip(fed: list[Record]) -> None:
    """Whatever was recorded is read again, drivers put in where they are needed."""
    with TemporaryDirectory() as directory:
        path, again = Path(directory) / "r", Path(directory) / "again"
        write(path, fed)
        found = read(path)
        assert [hidden(record) for record in fed if not isinstance(record, Driver)] == [
            record for record in found if not isinstance(record, Driver)
        ]
        write(again, found)
        assert path.read_bytes() == again.read_bytes()


def hidden(record: Record) -> Record:
    """Return a record as a recording keeps it."""
    if not isinstance(record, Match) or record.inputs.driver.id_table is None:
        return record
    id_table = hide_pointers(record.inputs.driver.id_table)
    driver = record.inputs.driver._replace(id_table=id_table)
    return record._replace(inputs=record.inputs._replace(driver=driver))


@given(st.lists(records, max_size=12))
def test_replay_equals_live(fed: list[Record]) -> None:
    """A recording gives the observations that the records gave, twice."""

    def observed(stream: Iterable[Record]) -> list[Observation]:
        seen: list[Observation] = []
        pipeline = Pipeline("linux-5.15", (seen.append,))
        for record in stream:
            pipeline.feed(record)
        return [o for o in seen if not isinstance(o, Driver)]

    with TemporaryDirectory() as directory:
        path = Path(directory) / "r"
        write(path, fed)
        live = observed(hidden(record) for record in fed)
        assert live == observed(read(path))
        assert live == observed(read(path))


def test_kernel_pointers_are_hidden(tmp_path: Path) -> None:
    """No address gets into a file; equal ones stay equal, small numbers as they are."""
    path = tmp_path / "r"
    one, other = 0xFFFFFFFFC0401000, KERNEL_POINTERS
    data = (one, 7, other, one, KERNEL_POINTERS - 1)
    table = tuple(Id(1, n, driver_data=value) for n, value in enumerate(data))
    dynids = (Id(1, 2, driver_data=one),)
    inputs = MATCH.inputs._replace(
        driver=DRIVER._replace(id_table=table), dynids=dynids
    )
    write(path, [MATCH._replace(inputs=inputs)])
    driver, match = read(path)
    assert isinstance(driver, Driver)
    assert isinstance(match, Match)
    assert [
        HIDDEN_POINTERS + 1,
        7,
        HIDDEN_POINTERS + 2,
        HIDDEN_POINTERS + 1,
        KERNEL_POINTERS - 1,
    ] == [entry.driver_data for entry in driver.id_table or ()]
    assert match.inputs.dynids[0].driver_data == HIDDEN_POINTERS + 1


def test_table_without_pointers_is_kept() -> None:
    """Nothing to hide, nothing copied."""
    table = (Id(1, 2), Id(3, 4))
    assert hide_pointers(table) is table


@pytest.mark.parametrize("name", ["r", "r.gz"])
def test_batches_reach_the_file(tmp_path: Path, name: str) -> None:
    """Who is killed loses the last batch, not the recording."""
    path = tmp_path / name
    writer = Writer(path, HEADER)
    for _ in range(BATCH):
        writer.write(LOSS)
    with Recording(path) as recording:
        assert list(recording) == [LOSS] * (BATCH - 1)  # and the header
    writer.close()
    writer.close()


def test_last_line_cut(tmp_path: Path) -> None:
    """What is there is read, and that it is not all is told."""
    path = tmp_path / "r"
    write(path, ALL)
    path.write_bytes(path.read_bytes()[:-5])
    with Recording(path) as recording:
        assert list(recording) == ALL[:-1]
        assert recording.truncated


def test_only_the_newline_is_missing(tmp_path: Path) -> None:
    """A whole record is one, with its newline or without."""
    path = tmp_path / "r"
    write(path, ALL)
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path) == ALL


@pytest.mark.parametrize(
    ("name", "compress"), [("r.gz", gzip.compress), ("r.xz", lzma.compress)]
)
def test_compressed_stream_cut(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    """A stream without its end gives what can be had."""
    plain, path = tmp_path / "r", tmp_path / name
    write(plain, [LOSS] * 20_000)
    whole = compress(plain.read_bytes())
    path.write_bytes(whole[: -len(whole) // 3])
    with Recording(path) as recording:
        found = list(recording)
        assert recording.truncated
    assert 0 < len(found) < 20_000
    assert set(found) == {LOSS}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.gz", b"no gzip"),
        ("r.gz", gzip.compress(b"{}")[:10] + b"\xff\xff\xff\xff"),
        ("r.xz", b"no xz, not at all"),
    ],
)
def test_broken_compression(tmp_path: Path, name: str, content: bytes) -> None:
    """What is no stream is an error that names the file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=name):
        Recording(path)


def test_unknown_fields_and_kinds(tmp_path: Path) -> None:
    """A newer minor version may say more than we understand."""
    path = tmp_path / "r"
    write(path, ALL)
    more = [line | {"novel": [1]} for line in lines(path)]
    more.insert(2, {"record": "weather", "sunny": True})
    path.write_text("".join(json.dumps(line) + "\n" for line in more), "ascii")
    assert read(path) == ALL


GOOD_HEADER = (
    '{"format": "pci-observer-recording", "version": 1, "kernel": {"release": "6.1",'
    ' "machine": "x86_64"}, "layout": {}, "semantics": "linux-5.15"}\n'
)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "line 1: format: missing"),
        ("{", "line 1: format: missing"),
        ("[]\n", "line 1: line: not an object"),
        ('{"format": "pcap"}\n', "line 1: format: not pci-observer-recording"),
        (GOOD_HEADER.replace("1,", "2,", 1), "line 1: version: newer than 1"),
        (GOOD_HEADER.replace("1,", '"x",', 1), "line 1: version: not an integer"),
        (GOOD_HEADER.replace("release", "r"), "line 1: kernel.release: missing"),
        (GOOD_HEADER.replace("{}", "[]"), "line 1: layout: not an object"),
    ],
)
def test_bad_header(tmp_path: Path, header: str, message: str) -> None:
    """Another format, a newer one or a header without its fields is refused."""
    path = tmp_path / "r.jsonl"
    path.write_text(header, "ascii")
    with pytest.raises(RecordingError, match=f"r.jsonl: {message}"):
        Recording(path)


def changed(record: dict[str, object], **fields: object) -> dict[str, object]:
    """Return a line with other fields; None takes one out."""
    return {name: value for name, value in (record | fields).items() if value != "-"}


def line_of(record: Record) -> dict[str, object]:
    """Return the line of a record."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "r"
        write(path, [DRIVER, record])
        return lines(path)[-1]


match_line, driver_line, probe_line = map(line_of, (MATCH, DRIVER, PROBE))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("", "not JSON"),
        ("\udcff", "not JSON"),
        ("9" * 5000, "not JSON"),
        ("7", "line: not an object"),
        ("{}", "record: missing"),
        ({"record": 7}, "record: not a string"),
        (changed(match_line, ktime_ns="-"), "ktime_ns: missing"),
        (changed(match_line, ktime_ns=-1), "ktime_ns: not within 0 and 0xffffffff"),
        (changed(match_line, pid=1 << 32), "pid: not within 0 and 0xffffffff$"),
        (changed(match_line, cpu=True), "cpu: not an integer"),
        (changed(match_line, cpu=1.0), "cpu: not an integer"),
        (changed(match_line, cpu="one"), "cpu: not an integer"),
        (changed(match_line, is_virtfn=1), "is_virtfn: neither true nor false"),
        (changed(match_line, device=[]), "device: not an object"),
        (changed(match_line, device={"vendor": 65536}), r"device\.vendor: not within"),
        (changed(match_line, dynids={}), "dynids: not a list"),
        (changed(match_line, dynids=[1]), r"dynids\[0\]: not an object"),
        (changed(match_line, driver_override=1), "driver_override: not a string"),
        (changed(match_line, match="hang"), "match: not one of none, static"),
        (changed(match_line, match=[]), "match: not one of none, static"),
        (changed(match_line, index=None), "index: not an integer"),
        (changed(match_line, match="none"), "index: none has none"),
        (changed(match_line, doubts=["rain"]), "doubts: not one of override_changed"),
        (
            changed(driver_line, id_table=[{}, {"class": -1}]),
            r"id_table\[1\]\.class: not within",
        ),
        (changed(probe_line, errno="\x1b[2J"), "errno: neither a name nor a number"),
        (changed(driver_line, table_state="lost"), "table_state: not one of complete"),
    ],
)
def test_bad_line(tmp_path: Path, line: str | dict[str, object], message: str) -> None:
    """Any other bad line is an error that names file, line and field."""
    path = tmp_path / "r.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    last = json.dumps(line_of(LOSS))
    path.write_bytes(
        f"{GOOD_HEADER}{last}\n{text}\n{last}\n".encode("utf-8", "surrogateescape")
    )
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match=f"r.jsonl: line 3: {message}"),
    ):
        list(recording)


def test_a_line_without_end(tmp_path: Path) -> None:
    """A small file that unpacks to one long line does not fill the memory."""
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD_HEADER.encode() + b" " * (64 << 20)))
    tracemalloc.start()
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match=r"line 2: longer than 8388608 bytes$"),
    ):
        list(recording)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 40 << 20


def test_ids_may_be_written_in_hexadecimal(tmp_path: Path) -> None:
    """Who writes a recording by hand may write ids as they are known, or not at all."""
    path = tmp_path / "r"
    line = changed(driver_line, id_table=[{"vendor": "0x8086"}])
    path.write_text(GOOD_HEADER + json.dumps(line) + "\n", "ascii")
    assert read(path) == [DRIVER._replace(id_table=(Id(0x8086),))]


def test_text_is_kept(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, control characters and all come back."""
    path = tmp_path / "r"
    name = b'\xff\xc3\xa9\n\x80\x1b\\"'.decode("utf-8", "surrogateescape")
    gone = GONE._replace(name=name)
    write(path, [gone])
    assert read(path) == [gone]


def test_full_disk(tmp_path: Path) -> None:
    """An error of the file is the caller's, and the file gets closed."""
    path = tmp_path / "r"
    path.symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match="No space left"),
        Writer(path, HEADER) as writer,
    ):
        writer.write(LOSS)


def test_value_of_a_field() -> None:
    """A field can be had as it is; a missing one is named with its place."""
    fields = Fields({"a": None}, "driver")
    assert fields.value("a") is None
    with pytest.raises(FieldError, match=r"^driver\.b: missing$"):
        fields.value("b")
