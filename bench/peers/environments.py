"""An environment per peer: its own packages first, then those of the environment that runs this.

PyTorch and the like are taken from there through a ``.pth`` file, for they would be gigabytes for each peer. What a
peer brings itself (its own starlette, pydantic, numpy) comes first, so that nobody gets a version it was not made for.
The project itself is not in it: whoever starts a peer says where it is, so an environment serves any copy.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
DEFAULT_FOLDER = Path(".peers")


class PeerNotInstalledError(Exception):
    """There is no environment for this peer; `python -m bench.peers install` makes it."""


def requirements(name: str) -> Path:
    """The file with the peer's exact versions."""
    return REQUIREMENTS / f"{name}.txt"


def python_of(name: str, folder: Path) -> Path:
    """The peer's interpreter. Raises PeerNotInstalledError."""
    python = folder.resolve() / name / "bin" / "python"
    if not (folder / name / "installed").exists():
        raise PeerNotInstalledError(f"{name}: python -m bench.peers install {name}")
    return python


def install(name: str, folder: Path) -> bool:
    """Make it, anew where it is of other versions or beside another environment; False where it was there already.

    Raises subprocess.CalledProcessError with what the installer said.
    """
    target = folder.resolve() / name
    mark, made_of = target / "installed", _made_of(name)
    if mark.exists() and mark.read_text() == made_of:
        return False
    shutil.rmtree(target, ignore_errors=True)
    python = target / "bin" / "python"
    wanted = ["--only-binary", ":all:", "--requirement", str(requirements(name))]
    beside = Path(sys.executable).with_name("uv")
    if uv := shutil.which("uv") or (str(beside) if beside.exists() else None):
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(target))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *wanted)
    else:
        _run(sys.executable, "-m", "venv", str(target))
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    _share(python)
    mark.write_text(made_of)
    return True


def _made_of(name: str) -> str:
    """Changes with what an environment consists of: the peer's versions, and whose packages it shares."""
    return hashlib.sha256(requirements(name).read_bytes() + sys.prefix.encode()).hexdigest()


def _share(python: Path) -> None:
    """Let the peer see what is installed for the project, behind its own packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(_run(str(python), "-c", code).strip())
    ours = {sysconfig.get_path("purelib"): None, sysconfig.get_path("platlib"): None}
    (own / "engine.pth").write_text("".join(f"{path}\n" for path in ours))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
