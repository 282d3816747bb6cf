"""Certificates for tests of TLS, made by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


def authority(directory: Path, name: str) -> Path:
    """Make a certificate that can sign others, and its key beside it."""
    certificate = directory / f"{name}.crt"
    _openssl(
        *("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", directory / f"{name}.key", "-out", certificate),
    )
    return certificate


def certificate(
    directory: Path, name: str, sans: str, *, by: Path, passphrase: str = ""
) -> tuple[Path, Path]:
    """Make a certificate signed by an authority, for these names; and its key."""
    made, key = directory / f"{name}.crt", directory / f"{name}.key"
    asked = directory / f"{name}.csr"
    extensions = directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={sans}\n")
    _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
    _openssl(
        *("x509", "-req", "-in", asked, "-days", "2", "-extfile", extensions),
        *("-CA", by, "-CAkey", by.with_suffix(".key"), "-CAcreateserial"),
        *("-out", made),
    )
    if passphrase:
        plain = directory / f"{name}.plain"
        key.rename(plain)
        _openssl(
            *("ec", "-in", plain, "-aes128", "-passout", f"pass:{passphrase}"),
            *("-out", key),
        )
    return made, key
