from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.answers import no_progress
from models.runtimes import converted
from models.runtimes.converted import Converted, Entry, key, read_choice, write_choice
from models.traits import Traits

TRAITS = Traits("Detect", "detect", "letterbox", ("a", "b"), 64, 96, end2end=False)
FACTS = {"weights": "ab12", "imgsz": None, "task": "detect"}


def write(folder: Path) -> None:
    (folder / "network.xml").write_text("<net/>")
    (folder / "network.bin").write_bytes(bytes(range(256)))


@pytest.fixture
def store(tmp_path: Path) -> Converted:
    return Converted(tmp_path / "deep" / "converted")


def test_an_entry_is_found_as_it_was_added(store: Converted) -> None:
    assert store.find("k") is None
    added = store.add("k", TRAITS, write)
    assert store.find("k") == added
    assert added.traits == TRAITS
    assert added.network.read_text() == "<net/>"
    assert not [path for path in added.folder.parent.iterdir() if path.name not in ("k", "k.lock")]


def test_a_refusal_is_an_entry_without_a_network(store: Converted) -> None:
    store.add("k", TRAITS, None, "it answers otherwise")
    found = store.find("k")
    assert found is not None
    assert (found.refusal, found.network.exists()) == ("it answers otherwise", False)


@pytest.mark.parametrize("file", ["network.bin", "network.xml", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "foreign"])
def test_a_damaged_entry_is_absent_and_can_be_replaced(store: Converted, file: str, damage: str) -> None:
    path = store.add("k", TRAITS, write).folder / file
    whole = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "changed":
            path.write_bytes(whole.replace(b"n", b"m").replace(b"\x07", b"\x08"))
        case "gone":
            path.unlink()
        case _:
            path.write_text('["something else"]')
    assert store.find("k") is None
    added = store.add("k", TRAITS, write)
    assert store.find("k") == added
    assert not (added.folder / "before").exists()


def test_what_fails_while_it_is_written_leaves_nothing(store: Converted) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.add("k", TRAITS, fail)
    assert store.find("k") is None
    assert list(store._folder.iterdir()) == []


def test_what_a_killed_worker_left_is_cleared_away(store: Converted) -> None:
    other = store.add("other", TRAITS, write)
    killed = os.fork()
    if not killed:
        store.add("k", TRAITS, lambda folder: os.kill(os.getpid(), signal.SIGKILL))
    assert os.WTERMSIG(os.waitpid(killed, 0)[1]) == signal.SIGKILL
    assert len(list(store._folder.glob("k.*/"))) == 1
    with store.locked("k", no_progress):
        store.add("k", TRAITS, write)
    assert sorted(path.name for path in store._folder.iterdir()) == ["k", "k.lock", "other"]
    assert store.find("other") == other


def test_a_folder_that_cannot_be_made_has_nothing_and_locks_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Converted(tmp_path / "file" / "converted")
    assert store.find("k") is None
    with store.locked("k", no_progress):
        pass
    with pytest.raises(OSError, match="Not a directory"):
        store.add("k", TRAITS, write)


@pytest.mark.parametrize("change", [{"weights": "ab13"}, {"imgsz": 320}, {"end2end": True}, {"task": None}])
def test_the_key_changes_with_whatever_changes_the_network(change: dict[str, Any]) -> None:
    assert key(FACTS) == key(dict(reversed(FACTS.items())))
    assert key(FACTS) != key({**FACTS, **change})


def test_the_key_changes_with_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(FACTS)
    monkeypatch.setattr(converted, "version", lambda name: "0.1")
    assert key(FACTS) != before
    assert all(converted.versions().values())


def test_a_choice_is_for_one_kind_of_machine(store: Converted) -> None:
    entry: Entry = store.add("k", TRAITS, write)
    write_choice(entry, "one", {"runtime": "openvino"})
    assert read_choice(entry, "one") == {"runtime": "openvino"}
    assert read_choice(entry, "another") is None
    assert store.find("k") == entry, "a choice beside the network is no damage"


def test_two_processes_make_an_entry_once(tmp_path: Path) -> None:
    code = f"""
import json, time
from pathlib import Path
from models.runtimes.converted import Converted
from tests.models.runtimes.test_converted import TRAITS, write
store, made = Converted(Path({str(tmp_path / "c")!r})), []
waits = []
with store.locked("k", lambda step: waits.append(step["stage"])):
    if store.find("k") is None:
        time.sleep(1.0)
        made.append(store.add("k", TRAITS, write).folder.name)
print(json.dumps([made, sorted(set(waits))]))
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(made for made, _ in said) == [[], ["k"]]
