"""Certificates that nobody but themselves has signed, for today or for a day long ago."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_CONFIG = """
[ca]
default_ca = it
[it]
new_certs_dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
default_md = sha256
policy = policy
copy_extensions = copy
[policy]
commonName = supplied
"""
TODAY = ("20200101000000Z", "20991231000000Z")
LONG_AGO = ("20200101000000Z", "20200102000000Z")


def self_signed(folder: Path, name: str, valid: tuple[str, str] = TODAY) -> Path:
    """A PEM file in `folder`, made for it, of a key and the certificate of the host `name`; needs openssl."""
    folder.mkdir()
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "config").write_text(_CONFIG.format(folder=folder))
    key, asked, signed, both = (folder / file for file in ("key", "asked", "signed", "both"))
    command = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(asked)], check=True, capture_output=True)
    command = ["openssl", "ca", "-batch", "-selfsign", "-notext", "-config", str(folder / "config")]
    command += ["-keyfile", str(key), "-in", str(asked), "-startdate", valid[0], "-enddate", valid[1]]
    subprocess.run([*command, "-out", str(signed)], check=True, capture_output=True)
    both.write_text(key.read_text() + signed.read_text())
    return both


def context_of(pem: Path) -> ssl.SSLContext:
    """For a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def one_for_each(contexts: dict[str, ssl.SSLContext], default: ssl.SSLContext) -> ssl.SSLContext:
    """For a server of several names."""

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = contexts.get(name or "", default)

    default.sni_callback = choose  # type: ignore[assignment]
    return default
