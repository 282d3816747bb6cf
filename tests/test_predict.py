"""observer/predict.py: made-up cases in, answers out, errors by line and field."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from strategies import decidable_inputs

from observer.cli import GOOD, USAGE, main
from observer.fields import Fields
from observer.model import SEMANTICS, expect, why
from observer.notation import U16, device_object, id_object
from observer.predict import (
    NEWEST,
    Options,
    PredictError,
    answer_match,
    answers,
    options,
)
from observer.record import PCI_ANY_ID, Inputs

BTF = Path(__file__).parent / "btf"
NIC = {
    "vendor": 0x8086,
    "device": 0x100E,
    "subvendor": 0x1AF4,
    "subdevice": 0x1100,
    "class": 0x020000,
}
LISTED = {"vendor": "0x8086", "device": "0x100e"}
CASE: dict[str, Any] = {
    "device": NIC,
    "driver": {"name": "e1000", "id_table": [LISTED], "dynids": []},
    "driver_override": None,
}


def case(
    driver: dict[str, Any] | None = None,
    device: dict[str, Any] | None = None,
    **fields: object,
) -> dict[str, Any]:
    """Return the case of contracts.md with other fields."""
    return {
        **CASE,
        "driver": CASE["driver"] | (driver or {}),
        "device": NIC | (device or {}),
        **fields,
    }


def answered(*cases: object, slug: str = "linux-5.15") -> list[dict[str, Any]]:
    """Return the answers to some cases."""
    lines = (json.dumps(each).encode() for each in cases)
    chosen = Options(slug, "linux-7.3")
    return [json.loads(line) for line in answers("stdin", lines, chosen)]


def matched(*cases: object, slug: str = "linux-5.15") -> list[tuple[str, int | None]]:
    """Return where the answers come from."""
    return [(each["match"], each["index"]) for each in answered(*cases, slug=slug)]


def test_answer() -> None:
    """The contract's case has the contract's answer."""
    assert [
        {
            "semantics": "linux-5.15",
            "match": "static",
            "index": 0,
            "reason": "No dynid matches; id_table[0] (8086:100e) does: the first entry "
            "that counts.",
        }
    ] == answered(CASE)


@pytest.mark.parametrize("slug", SEMANTICS)
@settings(max_examples=40)
@given(inputs=decidable_inputs)
def test_answer_is_the_models(slug: str, inputs: Inputs) -> None:
    """Whatever can be decided can be asked, and the model answers."""
    table = inputs.driver.id_table
    asked = {
        "device": device_object(inputs.device),
        "driver": {
            "name": inputs.driver.name,
            "id_table": table and [*map(id_object, table)],
            "dynids": [*map(id_object, inputs.dynids)],
        },
        "driver_override": inputs.driver_override,
    }
    found = answer_match(Fields(json.loads(json.dumps(asked))), slug)
    verdict = expect(slug, inputs)
    assert [slug, *verdict, why(slug, inputs)] == list(found.values())


def test_order() -> None:
    """One answer a line, in order."""
    other = case(device={"device": 1})
    assert [("none", None), ("static", 0), ("none", None)] == matched(
        other, CASE, other
    )


def test_defaults() -> None:
    """What is not said is as in new_id: subsystem ids any, the rest 0."""
    driver = {"name": "x", "id_table": None}
    assert [("none", None), ("static", 0), ("dynid", 1)] == matched(
        {"device": NIC, "driver": driver},
        case({"id_table": [{"vendor": 0x8086, "device": 0x100E}]}),
        case({"dynids": [{}, LISTED]}),
    )


def test_device_without_subsystem_ids() -> None:
    """Only wildcards match what the device does not say."""
    device = {"vendor": 1, "device": 2}
    driver = {"name": "x", "id_table": [{**device, "subvendor": U16}, device]}
    assert [("static", 1)] == matched({"device": device, "driver": driver})


@pytest.mark.parametrize("id_table", [None, [], [{"subvendor": 0}, LISTED]])
def test_no_table(id_table: object) -> None:
    """No table, an empty one and one that ends at once match nothing."""
    assert [("none", None)] == matched(case({"id_table": id_table}))


def test_entry_without_fields_is_no_end() -> None:
    """An entry that says nothing has subvendor any, so the table goes on after it."""
    assert [("static", 1)] == matched(case({"id_table": [{}, LISTED]}))


def test_hang() -> None:
    """The proposal of 17 June may have no answer at all."""
    flagged = case({"id_table": [LISTED | {"override_only": 1}]})
    assert [("hang", None)] == matched(flagged, slug="rfc-2021-06-17")


def test_writes() -> None:
    """A case with writes is answered by the rules of new_id; the match is not asked."""
    driver = {"name": "pci-stub", "id_table": None}
    writes = [["new_id", "8086 10f5"], ["remove_id", "8086 10f5"]]
    (found,) = answered({"driver": driver, "writes": writes})
    assert {"new_id_rules": "linux-7.3", "errnos": [0, 0], "dynids": []} == found


def test_flagged_dynid() -> None:
    """A dynid may carry the flag under the one semantics that knows it."""
    flagged = case({"dynids": [LISTED | {"override_only": 1}], "id_table": None})
    assert [("none", None)] == matched(flagged, slug="rfc-flagged-dynids")
    for slug in SEMANTICS.keys() - {"rfc-flagged-dynids"}:
        with pytest.raises(PredictError) as caught:
            answered(flagged, slug=slug)
        assert (
            "stdin: line 1: driver.dynids[0].override_only: a dynid of "
            f"{slug} has none" == str(caught.value)
        )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "not JSON"),
        (b"\n", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b"[]", "line: not an object"),
        (b"{}", "driver: missing"),
    ],
)
def test_bad_line(line: bytes, problem: str) -> None:
    """What is no case is refused with its line; earlier answers are given."""
    good = json.dumps(CASE).encode()
    found = answers("f", [good, line, good], NEWEST)
    assert "static" == json.loads(next(found))["match"]
    with pytest.raises(PredictError) as caught:
        next(found)
    assert f"f: line 2: {problem}" == str(caught.value)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (CASE | {"more": 1}, "more: unknown field"),
        (CASE | {"driver": 1}, "driver: not an object"),
        (CASE | {"device": None}, "device: not an object"),
        ({"driver": CASE["driver"]}, "device: missing"),
        (case(driver_override=1), "driver_override: not a string"),
        (case({"path": 1}), "driver.path: unknown field"),
        (CASE | {"driver": {"id_table": []}}, "driver.name: missing"),
        (CASE | {"driver": {"name": "x"}}, "driver.id_table: missing"),
        (case({"name": None}), "driver.name: not a string"),
        (case({"id_table": {}}), "driver.id_table: not a list"),
        (case({"id_table": [{}, 1]}), "driver.id_table[1]: not an object"),
        (case({"dynids": None}), "driver.dynids: not a list"),
        (case({"dynids": [{"x": 1}]}), "driver.dynids[0].x: unknown field"),
        (case(device={"class_mask": 1}), "device.class_mask: unknown field"),
        (case(device={"vendor": 0x10000}), "device.vendor: not within 0 and 0xffff"),
        (
            case(device={"subvendor": PCI_ANY_ID}),
            "device.subvendor: not within 0 and 0xffff",
        ),
        (case(device={"vendor": -1}), "device.vendor: not within 0 and 0xffff"),
        (case(device={"vendor": 1.0}), "device.vendor: not an integer"),
        (case(device={"vendor": True}), "device.vendor: not an integer"),
        (case(device={"vendor": "8086h"}), "device.vendor: not an integer"),
        (
            case({"id_table": [{"vendor": 1 << 32}]}),
            "driver.id_table[0].vendor: not within 0 and 0xffffffff",
        ),
        (
            case({"id_table": [{"driver_data": 1 << 64}]}),
            "driver.id_table[0].driver_data: not within 0 and 0xffffffffffffffff",
        ),
        (
            case({"id_table": [{"override_only": None}]}),
            "driver.id_table[0].override_only: not an integer",
        ),
    ],
)
def test_bad_field(bad: object, problem: str) -> None:
    """What is wrong with a case is told by the field's name."""
    with pytest.raises(PredictError) as caught:
        answered(bad)
    assert f"stdin: line 1: {problem}" == str(caught.value)


@pytest.mark.parametrize(
    ("btf", "semantics", "new_id_rules"),
    [
        ("5.10.0-46-amd64.btf", "linux-3.16", "linux-3.16"),
        ("6.12.95+deb12-amd64.btf", "linux-5.15", "linux-5.11"),
        ("7.3.4+deb13-amd64.btf", "linux-5.15", "linux-7.3"),
        ("no such file", "linux-5.15", "linux-7.3"),
        ("layouts.json", "linux-5.15", "linux-7.3"),
    ],
)
def test_default_options(btf: str, semantics: str, new_id_rules: str) -> None:
    """The running kernel's rules count, the newest where they can't be told."""
    found = options(None, None, btf=str(BTF / btf))
    assert Options(semantics, new_id_rules) == found
    given = options("linux-3.15", None, btf=str(BTF / btf))
    assert Options("linux-3.15", new_id_rules) == given


def test_kernel_beyond_the_model(tmp_path: Path) -> None:
    """A kernel that hides its driver_override is taken for the newest."""
    types = (BTF / "5.10.0-46-amd64.btf").read_bytes()
    hidden = types.replace(b"\0driver_override\0", b"\0driver_overrode\0")
    (tmp_path / "vmlinux").write_bytes(hidden)
    assert NEWEST == options(None, None, btf=str(tmp_path / "vmlinux"))


def test_given_options() -> None:
    """What is given counts; the kernel is not looked at."""
    assert Options("linux-3.15", "linux-5.11") == options("linux-3.15", "linux-5.11")


@pytest.mark.parametrize("option", ["--semantics", "--new-id-rules"])
def test_unknown_slug(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slug that does not exist is told with those that do, on one line."""
    assert USAGE == main(["predict", option, "linux-9.0\n"])
    output, errors = capsys.readouterr()
    assert ("", 1) == (output, errors.count("\n"))
    assert f"{option}: linux-9.0\\n is not one of linux-3.1" in errors


def test_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is read as standard input is, and named in errors."""
    path = tmp_path / "cases"
    path.write_text(f"{json.dumps(CASE)}\n[]\n", encoding="utf-8")
    assert USAGE == main(["predict", "--semantics", "linux-5.15", str(path)])
    output, errors = capsys.readouterr()
    assert 1 == output.count("\n")
    assert f"pci-observer: {path}: line 2: line: not an object\n" == errors


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is one line."""
    path = tmp_path / "cases"
    assert USAGE == main(["predict", str(path)])
    assert f"pci-observer: {path}: No such file or directory\n" == (
        capsys.readouterr().err
    )


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file standard input is read; the last line needs no newline."""
    cases = io.TextIOWrapper(io.BytesIO(json.dumps(CASE).encode()))
    monkeypatch.setattr(sys, "stdin", cases)
    assert GOOD == main(["predict"])
    assert "static" == json.loads(capsys.readouterr().out)["match"]


def test_streaming() -> None:
    """An answer is there before the next case is asked."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "observer", "predict"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(json.dumps(CASE).encode() + b"\n")
            process.stdin.flush()
            assert "static" == json.loads(process.stdout.readline())["match"]
        process.stdin.close()
        assert GOOD == process.wait(30)
