"""Settings of the libraries, before any test imports them: no network, no installing, safe loading."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")
os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / "ultralytics"))
Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="module")
def weights(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights of the test file's own `architecture`."""
    from tests.models.networks import save_yolo

    return save_yolo(tmp_path_factory.mktemp("weights") / "random.pt", architecture)
