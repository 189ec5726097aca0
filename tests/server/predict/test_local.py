"""The command with an engine of its own: the shipped model, real pictures, no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import CONVERTED_DIR

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "models" / "demo" / "samples"


def run(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    own = {"PYTHONPATH": str(ROOT), "ENGINE_CONVERTED_DIR": str(CONVERTED_DIR), "ENGINE_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "server", "predict", *arguments],
        cwd=cwd,
        env={**kept, **own, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_answers_are_the_servers_and_nothing_else_is_printed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not really")
    (tmp_path / "engine.toml").write_text('keys_file = "nowhere.toml"\n')  # there is nobody to ask for one
    pictures = sorted(SAMPLES.glob("*.jpg"))
    done = run(tmp_path, "shapes-detect", *pictures, broken, "--confidence", "0.5", "--precision", "fp32")
    assert done.returncode == 1, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["source"] for record in records] == [str(path) for path in (*pictures, broken)]
    assert records[-1]["error"]["code"] == "image_undecodable"
    for path, record in zip(pictures, records, strict=False):
        shapes = json.loads(path.with_suffix(".json").read_text())
        assert record["task"] == "detect" and record["predictions"], shapes
        assert all(each["confidence"] >= 0.5 for each in record["predictions"])
    assert done.stderr.splitlines() == [f"inference-engine: {len(records)} images, 1 failed"]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["nope", "a.jpg"], 2, "no model nope; known are"),
        (["shapes-detect", "a.jpg", "--replicas", "x"], 78, "replicas = 'x' (command line --replicas)"),
        (["mine", "a.jpg"], 1, "The weights of mine are not on this machine"),
    ],
)
def test_what_cannot_be_loaded_is_said(tmp_path: Path, arguments: list[str], code: int, part: str) -> None:
    (tmp_path / "engine.toml").write_text(
        'offline = true\n[models.mine]\nweights = "no.pt"\ntask = "detect"\n'
    )
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert part in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith(
        "inference-engine: "
    )
