"""Reading BTF: every kind, every error, and a second opinion on real kernels."""

from __future__ import annotations

import struct
from itertools import chain
from pathlib import Path

import pytest
from btf_make import (
    ENUM,
    FUNC,
    FWD,
    INT_32,
    PROTO,
    TYPEDEF,
    UNION,
    Kind,
    blob,
    integer,
    record,
    sections,
)
from btf_trim import STRUCT, Reader
from hypothesis import given
from hypothesis import strategies as st

from observer.btf import Btf, BtfError, Member

KERNELS = sorted((Path(__file__).parent / "btf").glob("*.btf"))


class TestHeader:
    """What is no BTF is refused with one sentence."""

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"", "not BTF: starts with nothing"),
            (b"\x9f", "not BTF: starts with 9f"),
            (b"\x7fELF", "not BTF: starts with 7f45"),
            (b"\xeb\x9f" + bytes(22), "big-endian"),
            (b"\x9f\xeb\x01", "3 bytes are less than its header"),
            (b"\x9f\xeb\x02" + bytes(21), "version 2, flags 0x0"),
            (b"\x9f\xeb\x01\x01" + bytes(20), "version 1, flags 0x1"),
            (b"\x9f\xeb\x01" + bytes(21), "type section lies in the header"),
            (blob()[:-1], "its string section ends at 45 of 44"),
            (blob()[:30], "its type section ends at 40 of 30"),
            (sections(b"", b""), "strings don't begin and end with NUL"),
            (sections(b"", b"\0int"), "strings don't begin and end with NUL"),
            (sections(b"", b"int\0"), "strings don't begin and end with NUL"),
            (sections(bytes(4), b"\0"), "type id 1 ends behind its section"),
            (sections(bytes(8) + bytes(4), b"\0"), "type id 1 has the unknown kind 0"),
        ],
    )
    def test_refused(self, data: bytes, sentence: str) -> None:
        """Each way of being no BTF has its own sentence."""
        with pytest.raises(BtfError, match=sentence):
            Btf(data)

    def test_longer_header(self) -> None:
        """A header with fields of later kernels is as good as the short one."""
        types = struct.pack("<6I", 1, STRUCT << 24 | 1, 4, 1, 0, 0)
        btf = Btf(sections(types, b"\0a\0", 32, 0, 0))
        assert (1, 4) == (btf.struct("a"), btf.size("a"))

    def test_no_types(self) -> None:
        """BTF without any type is valid, and knows nothing."""
        btf = Btf(sections(b"", b"\0a\0"))
        assert (None, None, None) == (btf.struct("a"), btf.size("a"), btf.function("a"))


class TestKinds:
    """The walk over the types knows the length of every kind."""

    @pytest.mark.parametrize(
        "before",
        [
            integer(),
            Kind(2),
            Kind(3, words=(1, 1, 8)),
            record("r", ("m", 1, 0), ("n", 1, 32)),
            Kind(UNION, "u", 4, (("m", 1, 0),)),
            Kind(ENUM, "e", 4, (("A", 0), ("B", 1), ("C", 2))),
            Kind(FWD, "f"),
            Kind(TYPEDEF, "t", 1),
            Kind(9, "", 1),
            Kind(10, "", 1),
            Kind(11, "", 1),
            Kind(FUNC, "f", 1, linkage=2),
            Kind(PROTO, "", 0, (("a", 1), ("b", 1))),
            Kind(14, "v", 1, words=(1,)),
            Kind(15, "s", 8, ((1, 0, 4), (1, 4, 4))),
            Kind(16, "double", 8),
            Kind(17, "tag", 1, words=(0,)),
            Kind(18, "user", 1),
            Kind(19, "e", 8, (("A", 0, 0), ("B", 1, 1))),
        ],
        ids=lambda kind: str(kind.kind),
    )
    def test_walked_over(self, before: Kind) -> None:
        """What comes after a type of any kind is found."""
        btf = Btf(blob(before, record("wanted", ("m", INT_32, 96))))
        assert (3, 12) == (btf.struct("wanted"), btf.offset("wanted", "m"))

    @pytest.mark.parametrize("kind", [20, 31, 127])
    def test_unknown(self, kind: int) -> None:
        """A kind of a later kernel is named: its length can't be known."""
        types = struct.pack("<III", 0, kind << 24, 0)
        with pytest.raises(BtfError, match=f"type id 1 has the unknown kind {kind}$"):
            Btf(sections(types, b"\0"))

    @pytest.mark.parametrize("missing", [1, 4, 12, 13])
    def test_cut(self, missing: int) -> None:
        """A type that goes on behind its section is an error, whatever follows."""
        types = struct.pack("<6I", 1, STRUCT << 24 | 1, 4, 1, 0, 0)[:-missing]
        with pytest.raises(BtfError, match="type id 1 ends behind its section"):
            Btf(sections(types, b"\0a\0"))


class TestNames:
    """A name finds the first type of the right kind that is complete."""

    def test_kinds_apart(self) -> None:
        """A union, a function and a struct may share a name."""
        btf = Btf(
            blob(
                Kind(UNION, "a", 4, (("u", INT_32, 0),)),
                Kind(FUNC, "a", 4),
                Kind(PROTO, "", 0, (("x", INT_32),)),
                record("a", ("s", INT_32, 32)),
            )
        )
        assert (5, 3, 1) == (btf.struct("a"), btf.function("a"), btf.parameters("a"))
        assert (True, False) == (btf.has_member("a", "s"), btf.has_member("a", "u"))

    def test_first_complete(self) -> None:
        """A declaration and a struct without members give way to the first full one."""
        full = record("a", ("m", INT_32, 32)), record("a", ("m", INT_32, 64))
        btf = Btf(blob(Kind(FWD, "a"), record("a"), *full))
        assert (4, 4) == (btf.struct("a"), btf.offset("a", "m"))

    @pytest.mark.parametrize("name", ["dev", "pci_de", "i_dev", "pci_device", "", "x"])
    def test_whole_names(self, name: str) -> None:
        """Neither a part of a name nor more than it will do."""
        btf = Btf(blob(record("pci_dev", ("pci_dev_id", INT_32, 0))))
        assert btf.struct(name) is None
        assert btf.function(name) is None
        assert not btf.has_member("pci_dev", name)

    def test_no_path(self) -> None:
        """Without a path the question is whether there is such a struct."""
        btf = Btf(blob(record("a", ("m", INT_32, 32))))
        assert (0, None) == (btf.offset("a"), btf.offset("b"))

    def test_absent(self) -> None:
        """What isn't there is None, at every step of a path."""
        btf = Btf(
            blob(record("a", ("m", INT_32, 32)), Kind(2), record("b", ("p", 3, 0)))
        )
        assert btf.offset("nothing", "m") is None
        assert btf.offset("a", "n") is None
        assert btf.offset("a", "m", "n") is None
        assert btf.offset("b", "p", "m") is None
        assert btf.bit_offset("a", "n") is None
        assert btf.parameters("a") is None


class TestMembers:
    """Members are found where C would find them."""

    def test_nested(self) -> None:
        """A path adds the offsets up."""
        inner = record("inner", ("x", INT_32, 0), ("y", INT_32, 32))
        btf = Btf(blob(inner, record("outer", ("a", INT_32, 0), ("b", 2, 64))))
        assert (8, 12) == (btf.offset("outer", "b"), btf.offset("outer", "b", "y"))

    @pytest.mark.parametrize("modifier", [TYPEDEF, 9, 10, 11, 18])
    def test_modifiers(self, modifier: int) -> None:
        """Typedefs, qualifiers and tags are looked through, also two in a row."""
        kinds = (
            record("inner", ("x", INT_32, 32)),
            Kind(modifier, "t", 2),
            Kind(modifier, "u", 3),
            record("outer", ("named", 4, 64), ("", 4, 128)),
        )
        btf = Btf(blob(*kinds))
        assert 12 == btf.offset("outer", "named", "x")
        assert 20 == btf.offset("outer", "x")

    def test_anonymous(self) -> None:
        """Members of anonymous structs and unions belong to what is around them."""
        btf = Btf(
            blob(
                Kind(UNION, "", 8, (("x", INT_32, 0), ("", 3, 0))),
                record("", ("y", INT_32, 32)),
                record("outer", ("", 2, 64), ("z", INT_32, 128)),
            )
        )
        assert [8, 12, 16] == [btf.offset("outer", name) for name in "xyz"]

    def test_by_type_id(self) -> None:
        """A member gives its type, from which the search can go on."""
        btf = Btf(blob(record("a", ("m", INT_32, 40))))
        assert Member(INT_32, 40, 0) == btf.member(2, "m")
        assert btf.member(INT_32, "m") is None

    def test_pointers(self) -> None:
        """A pointer has no members of its own."""
        kinds = record("a", ("m", INT_32, 0)), Kind(2, "", 2), record("b", ("p", 3, 0))
        btf = Btf(blob(*kinds))
        assert (0, None) == (btf.offset("b", "p"), btf.offset("b", "p", "m"))


class TestBits:
    """Bit-fields are told from whole members."""

    def test_kind_flag(self) -> None:
        """With kind_flag the member holds its own width, in the top 8 bits."""
        members = ("a", INT_32, 1 << 24 | 37), ("b", INT_32, 3 << 24 | 38)
        btf = Btf(blob(record("s", *members, ("whole", INT_32, 64), flag=1)))
        assert ((37, 1), (38, 3)) == (
            btf.bit_offset("s", "a"),
            btf.bit_offset("s", "b"),
        )
        assert (64, 32) == btf.bit_offset("s", "whole")
        assert (4, 8) == (btf.offset("s", "a"), btf.offset("s", "whole"))

    def test_far_without_kind_flag(self) -> None:
        """Without kind_flag all 32 bits of the member are offset."""
        btf = Btf(blob(record("s", ("a", INT_32, 1 << 24))))
        assert (1 << 24, 32) == btf.bit_offset("s", "a")

    def test_old_bit_fields(self) -> None:
        """Before kind_flag a bit-field was an INT with a width and a place."""
        btf = Btf(blob(integer("old", bits=2, offset=5), record("s", ("a", 2, 32))))
        assert (37, 2) == btf.bit_offset("s", "a")

    @pytest.mark.parametrize(
        ("kind", "bits"),
        [
            (Kind(ENUM, "e", 4), 32),
            (Kind(19, "e", 8), 64),
            (Kind(16, "double", 8), 64),
            (Kind(UNION, "u", 2), 16),
            (Kind(TYPEDEF, "t", INT_32), 32),
            (Kind(2), 0),
            (Kind(3, words=(1, 1, 8)), 0),
        ],
        ids=lambda item: str(getattr(item, "kind", item)),
    )
    def test_width(self, kind: Kind, bits: int) -> None:
        """A whole member is as wide as its type, if that says so."""
        assert (8, bits) == Btf(blob(kind, record("s", ("a", 2, 8)))).bit_offset(
            "s", "a"
        )


class TestCorrupt:
    """Bytes that are BTF in form only end in BtfError, never in a hang."""

    def test_typedef_of_itself(self) -> None:
        """A typedef that leads back to itself is reported."""
        btf = Btf(blob(Kind(TYPEDEF, "t", 2), record("s", ("", 2, 0))))
        with pytest.raises(BtfError, match="typedefs at type id 2 never end"):
            btf.offset("s", "x")

    def test_union_inside_itself(self) -> None:
        """An anonymous union that holds itself, twice, is searched once."""
        inside_itself = Kind(UNION, "", 8, (("", 2, 0), ("", 2, 0), ("x", INT_32, 0)))
        btf = Btf(blob(inside_itself, record("s", ("", 2, 64))))
        assert (8, None) == (btf.offset("s", "x"), btf.offset("s", "y"))

    @pytest.mark.parametrize("type_id", [0, 4, 0xFFFFFFFF])
    def test_dangling(self, type_id: int) -> None:
        """A type id that isn't there is reported where it is needed."""
        btf = Btf(blob(record("s", ("a", type_id, 0)), Kind(FUNC, "f", type_id)))
        assert 0 == btf.offset("s", "a")
        for ask in (lambda: btf.bit_offset("s", "a"), lambda: btf.parameters("f")):
            with pytest.raises(BtfError, match=f"type id {type_id} of 3"):
                ask()

    def test_function_without_prototype(self) -> None:
        """A function whose type is no prototype is reported by name."""
        with pytest.raises(BtfError, match="function f has no prototype"):
            Btf(blob(Kind(FUNC, "f", INT_32))).parameters("f")


NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
MEMBERS = st.dictionaries(NAMES, st.integers(0, 0xFFFF), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, MEMBERS, max_size=6))
def test_what_was_written_is_read(structs: dict[str, dict[str, int]]) -> None:
    """Any structs with any members are found again, and nothing else is."""
    kinds = (
        record(name, *((member, INT_32, byte * 8) for member, byte in members.items()))
        for name, members in structs.items()
    )
    btf = Btf(blob(*kinds))
    for name in {*structs, "other"}:
        members = structs.get(name, {})
        read = {m: btf.offset(name, m) for m in {*chain(*structs.values()), "none"}}
        found = {member: byte for member, byte in read.items() if byte is not None}
        assert members == found


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.stem)
def test_second_opinion(kernel: Path) -> None:
    """On real kernels every member lies where the reader of btf_trim.py sees it."""
    data = kernel.read_bytes()
    btf, reader = Btf(data), Reader(data)
    checked = 0
    for type_id in range(1, len(reader.spans)):
        found = reader[type_id]
        if found.kind != STRUCT or not found.name or not found.body:
            continue
        assert (type_id, found.value) == (btf.struct(found.name), btf.size(found.name))
        for name_offset, _, bits in struct.iter_unpack("<III", found.body):
            if name := reader.text(name_offset):
                offset = bits & 0xFFFFFF if found.info >> 31 else bits
                assert offset // 8 == btf.offset(found.name, name)
                checked += 1
    assert checked > 300
