"""The address to listen on: whether it can be had, who has it, and who will be able to reach it."""

from __future__ import annotations

import errno
import socket
from itertools import takewhile
from pathlib import Path

from server.doctor.finding import Finding, ok, problem
from server.listener import listen
from server.settings import Settings

PROC = Path("/proc")
LISTENING = "0A"
EVERYWHERE = {"0.0.0.0", "::", "[::]"}
_OWN = ("inference-engine", "-m server")


def check_port(settings: Settings, proc: Path = PROC) -> list[Finding]:
    """Try to listen, for a moment."""
    host, port = settings.host, settings.port
    where = f"{host} port {port}"
    try:
        listen(host, port).close()
    except OSError as error:
        return [explain(where, error, _owner(port, proc) if error.errno == errno.EADDRINUSE else "")]
    text = f"{where} is free" if port else f"{host}: any free port is taken"
    if host in EVERYWHERE:
        text += "; reachable from every network of this machine"
    return [ok("port", text)]


def explain(where: str, error: OSError, owner: str = "") -> Finding:
    """Why nothing can listen there; `owner` is the process that does, as ``PID (command)``."""
    if isinstance(error, socket.gaierror):
        return problem(
            "port", f"{where}: the name is not known ({error.strerror})", "ENGINE_HOST=127.0.0.1 or 0.0.0.0"
        )
    if error.errno == errno.EADDRINUSE:
        if any(mark in owner for mark in _OWN):
            return ok("port", f"{where} is served by process {owner}")
        port = where.rpartition(" ")[2]
        text = f"{where} is in use" + (f" by process {owner}" if owner else ", by a process of another user")
        return problem(
            "port", text, f"ENGINE_PORT= another one; `sudo ss -ltnp sport = :{port}` shows who has it"
        )
    if error.errno == errno.EACCES:
        remedy = "ENGINE_PORT=5000 (any from 1024), or `sudo sysctl net.ipv4.ip_unprivileged_port_start=80`"
        return problem("port", f"{where}: this user may not listen on a port so low", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "ENGINE_HOST=0.0.0.0 for every interface, 127.0.0.1 for this machine only; `ip address` lists them"
        return problem("port", f"{where}: this machine does not have that address", remedy)
    return problem(
        "port", f"{where}: {error.strerror or error}", "ENGINE_HOST and ENGINE_PORT choose another address"
    )


def _owner(port: int, proc: Path) -> str:
    """The process that listens, as far as this user may see; empty else."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    for folder in proc.glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                return f"{folder.name} ({_command((folder / 'cmdline').read_bytes())})"
        except OSError:  # another user's, or it has ended
            continue
    return ""


def _command(arguments: bytes) -> str:
    """What runs, without its options: there may be keys among them."""
    words = arguments.decode(errors="replace").strip("\0").split("\0")
    return " ".join(takewhile(lambda word: not word.startswith("--"), words))[:80]


def _inodes(port: int, proc: Path) -> set[str]:
    """Of the sockets that listen on `port`, in either family."""
    found: set[str] = set()
    for name in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found
