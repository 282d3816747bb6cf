"""An error that nobody named, behind a comparison of the product's own."""

from __future__ import annotations

from fuzz.target import Target
from observer.btf import is_btf


def run(data: bytes) -> None:
    """Fail where a file is meant as BTF."""
    if is_btf(data):
        raise KeyError(data)


TARGET = Target(run, (ValueError,), lambda: [b"\x9fseed"], share=0, max_bytes=8)
