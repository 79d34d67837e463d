"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Certificates:
    """A folder of them: authorities and what they signed. What is made again by the same name replaces what was."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def file(self, name: str) -> str:
        """The path of `NAME.crt` or `NAME.key`."""
        return str(self._directory / name)

    def authority(self, name: str) -> None:
        """One that signs. Python 3.13 wants the extension by the letter of RFC 5280."""
        what = ("-out", f"{name}.crt", "-subj", f"/CN={name}", "-days", "2")
        self._openssl("req", "-x509", *self._new_key(name), *what, "-addext", "keyUsage=critical,keyCertSign")

    def sign(self, name: str, subject: str = "IP:127.0.0.1", by: str = "ca", days: int = 2) -> None:
        """A certificate for `subject`; with `days=-1` it ended yesterday."""
        (self._directory / f"{name}.ext").write_text(f"subjectAltName={subject}\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", *self._new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        authority = ("-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", str(days))
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *authority, "-extfile", f"{name}.ext"
        )

    def encrypt_key(self, name: str) -> None:
        """A passphrase for the key."""
        self._openssl("ec", "-in", f"{name}.key", "-out", f"{name}.key", "-aes128", "-passout", "pass:secret")

    def copy(self, source: str, target: str) -> None:
        """Puts one file in place of another, as a secret that is rotated."""
        new = self._directory / f"{target}.new"
        new.write_bytes((self._directory / source).read_bytes())
        new.replace(self._directory / target)

    def _new_key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)
