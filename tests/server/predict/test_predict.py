"""The command in a process of its own, against a server that answers what it is told."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from tests.server.client.origin import REPLY, Answer, Asked, Origin, refusal, running_origin

ROOT = Path(__file__).parents[3]
JPEG = b"\xff\xd8 not really"
MODEL = Answer(200, {"model_id": "m", "family": "yolo", "state": "ready"})


class Engine(Origin):
    """Says first that the model is there; `gate` holds back answers about images."""

    delay = 0.0

    def next(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            return MODEL
        answer = super().next(asked)
        time.sleep(self.delay)
        return answer


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_origin() as origin:
        origin.__class__ = Engine
        assert isinstance(origin, Engine)
        yield origin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "deep/c.webp"):
        (pictures / name).write_bytes(JPEG)
    (pictures / "notes.txt").write_text("no image")
    (pictures / "loop").symlink_to(pictures)
    return pictures


def command(engine: Origin, *arguments: str | bytes | Path) -> list[Any]:
    return [sys.executable, "-m", "server", "predict", "m", "--server", engine.url, *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


@dataclass
class Done:
    """What came of a run in this process."""

    returncode: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command as the console script runs it."""

    def run(engine: Origin, *arguments: Any, stdin: bytes = b"", **variables: str) -> Done:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([os.fsdecode(each) for each in command(engine, *arguments)[3:]])
        captured = capfdbinary.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@contextlib.contextmanager
def started(arguments: Sequence[Any], **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    """Killed at the end if it has not ended by then."""
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def records(output: bytes | Path) -> list[dict[str, Any]]:
    text = output.read_bytes() if isinstance(output, Path) else output
    return [json.loads(line) for line in text.splitlines()]


def names(output: bytes | Path) -> list[str]:
    return [Path(record["source"]).name for record in records(output)]


def test_files_folders_patterns_addresses_and_standard_input_are_sources(
    run: Run, engine: Engine, folder: Path
) -> None:
    address = "https://images.example/x.jpg"
    odd = os.fsencode(folder) + b"/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes(JPEG)
    given = [folder / "notes.txt", folder / "deep", str(folder / "*.jpg"), address, "-", odd]
    done = run(engine, *given, "--confidence", "0.5", stdin=JPEG + b"!", ENGINE_API_KEY="secret")
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    found = names(done.stdout)
    assert found[:2] == ["notes.txt", "c.webp"] and sorted(found[2:4]) == ["\\xff.jpg", "a.jpg"]
    assert found[4:] == ["x.jpg", "-", "\\xff.jpg"]
    assert records(done.stdout)[0] == {"source": str(folder / "notes.txt"), **REPLY}
    asked = [each for each in engine.asked if "inference" in each.path]
    assert {each.headers["authorization"] for each in asked} == {"Bearer secret"}
    assert JPEG + b"!" in [each.body for each in asked]
    (fetched,) = (json.loads(each.body) for each in asked if b"image_url" in each.body)
    assert fetched == {"model_id": "m", "image_url": address, "parameters": {"confidence": 0.5}}


def test_folders_are_looked_into_when_asked_and_links_are_no_loop(
    run: Run, engine: Engine, folder: Path
) -> None:
    assert sorted(names(run(engine, folder).stdout)) == ["a.jpg", "b.PNG"]
    deep = run(engine, "--recursive", folder)
    assert (deep.returncode, sorted(names(deep.stdout))) == (0, ["a.jpg", "b.PNG", "c.webp"])
    listed = run(engine, "--from-file", "-", stdin=f"{folder / 'a.jpg'}\n\n{folder / 'b.PNG'}\r\n".encode())
    assert names(listed.stdout) == ["a.jpg", "b.PNG"]


def test_what_has_no_answer_is_a_record_and_the_exit_code_says_so(
    run: Run, engine: Engine, folder: Path
) -> None:
    empty = folder / "deep" / "empty"
    empty.mkdir()
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(folder / "pipe.jpg")  # would be waited for
    engine.answers = [refusal(422, "image_undecodable"), Answer()]
    done = run(engine, "--concurrency", "1", folder / "a.jpg", folder, empty, "no.jpg", "*.none")
    assert done.returncode == 1
    codes = [(record["source"], record.get("error", {}).get("code")) for record in records(done.stdout)]
    assert codes[0] == (str(folder / "a.jpg"), "image_undecodable")
    assert sorted(codes[1:5]) == [
        (str(folder / "a.jpg"), None), (str(folder / "b.PNG"), None), (str(folder / "gone.jpg"), "file_unreadable"),
        (str(folder / "self.jpg"), "file_unreadable"),
    ]  # fmt: skip
    assert codes[5:] == [
        (str(empty), "no_images"), ("no.jpg", "file_unreadable"), ("*.none", "no_images"),
    ]  # fmt: skip
    assert b"8 images, 6 failed" in done.stderr
    assert run(engine, "--quiet", folder / "a.jpg").stderr == b""


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ([], 2, "give a SOURCE"),
        (["-", "--from-file", "-"], 2, "standard input can be one source only"),
        (["a.jpg", "--resume"], 2, "--resume needs --output"),
        (["a.jpg", "--concurrency", "0"], 2, "must be 1 to 100"),
        (["a.jpg", "--parameter", "top"], 2, "NAME=VALUE"),
        (["a.jpg", "--nope"], 2, "unrecognized arguments: --nope"),
        (["pictures", "--save-pictures", "pictures"], 2, "lies in a source"),
        (["a.jpg", "--save-pictures", "x", "--format", "csv"], 2, "do not go together"),
        (["a.jpg", "--output", "pictures/a.jpg"], 2, "exists"),
        (["a.jpg", "--output", "no/out"], 2, "No such file"),
    ],
)
def test_wrong_arguments_are_named(
    engine: Engine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    code: int,
    part: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    try:
        ended = main(["predict", "m", "--server", engine.url, *arguments])
    except SystemExit as raised:
        ended = int(raised.code or 0)
    assert (ended, part in (said := capsys.readouterr().err)) == (code, True), said
    assert engine.asked == []


@pytest.mark.parametrize(
    ("code", "status", "ended"),
    [("invalid_parameter", 400, 2), ("unauthorized", 401, 1), ("weights_invalid", 503, 1)],
)
def test_what_would_fail_for_every_source_ends_the_run(
    run: Run, engine: Engine, folder: Path, code: str, status: int, ended: int
) -> None:
    engine.answers = [refusal(status, code)]
    done = run(engine, "--recursive", folder)
    assert (done.returncode, done.stdout) == (ended, b"")
    assert code.encode() in done.stderr and b"Traceback" not in done.stderr


def test_a_table_has_a_row_for_every_prediction_and_one_for_nothing(
    run: Run, engine: Engine, folder: Path
) -> None:
    prediction = REPLY["predictions"][0] | {"label": 'a "b",\nc', "corners": [[1.0, 2.0]]}  # type: ignore[index]
    engine.answers = [
        Answer(200, {**REPLY, "predictions": [prediction, prediction]}),
        Answer(200, {**REPLY, "predictions": []}),
        Answer(200, {**REPLY, "predictions": None, "task": "vqa", "prompt": "who?", "answer": "me"}),
        refusal(422, "image_undecodable"),
    ]
    del engine.answers[2].body["predictions"]
    sources = [folder / "a.jpg", folder / "b.PNG", folder / "a.jpg", folder / "b.PNG"]
    done = run(engine, "--format", "csv", "--concurrency", "1", *sources)
    assert done.returncode == 1
    rows = list(csv.DictReader(done.stdout.decode().splitlines(keepends=True)))
    assert [(row["number"], row["label"], row["answer"], row["error_code"]) for row in rows] == [
        ("0", 'a "b",\nc', "", ""), ("1", 'a "b",\nc', "", ""), ("0", "", "", ""), ("0", "", "me", ""),
        ("0", "", "", "image_undecodable"),
    ]  # fmt: skip
    assert (rows[0]["x2"], rows[0]["corners"], rows[0]["width"]) == ("2", "[[1.0,2.0]]", "4")


@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_a_run_that_was_killed_goes_on_where_it_was(
    run: Run, engine: Engine, tmp_path: Path, output_format: str
) -> None:
    pictures = tmp_path / "many"
    pictures.mkdir()
    for number in range(60):
        (pictures / f"{number}.jpg").write_bytes(b"\xff\xd8%d" % number)
    output = tmp_path / "out"
    options = ("--output", output, "--format", output_format, "--concurrency", "2", "--resume", pictures)
    engine.answers = [refusal(422, "image_undecodable"), Answer()]
    engine.delay = 0.02
    with started(command(engine, *options)):
        wait_for_lines(output, 10)
    whole = output.read_bytes()
    output.write_bytes(whole[:-7])  # the kernel writes a record whole; a disk that was full may not
    num_before = len(engine.asked)
    engine.delay = 0.0
    done = run(engine, *options)
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    found = [json.loads(line)["source"] for line in text.splitlines()] if output_format == "jsonl" else [
        row["source"] for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip
    assert sorted(found) == sorted(str(path) for path in pictures.iterdir())
    assert "image_undecodable" not in text
    num_again = len(engine.asked) - num_before
    num_left = 60 - (
        len(whole.splitlines()) - 2 - 2 * (output_format == "csv")
    )  # its head, and its last source
    assert num_left <= num_again <= num_left + 2, "two may have been on their way when it was killed"
    num_before = len(engine.asked)
    assert run(engine, *options).returncode == 0
    assert len(engine.asked) - num_before == (
        output_format == "csv"
    )  # nobody knows that its last one is whole


def test_a_file_of_another_model_or_another_kind_is_left_alone(
    run: Run, engine: Engine, folder: Path
) -> None:
    output = folder / "out"
    for content in (b'{"source":"a","model_id":"other"}\n', b"some text\n", b'{"source":"a"}\n[]\n'):
        output.write_bytes(content)
        done = run(engine, "--resume", "--output", output, folder)
        assert (done.returncode, output.read_bytes()) == (2, content), done.stderr
    assert not engine.asked and not list(folder.glob("*.resumed"))


def wait_for_lines(path: Path, number: int) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_ends_a_run_with_what_is_done_on_disk(engine: Engine, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    engine.delay = 0.05
    options = ("--output", output, "--concurrency", "1", *[folder / "a.jpg"] * 500, "-")
    with started(command(engine, *options), stdin=subprocess.PIPE) as process:
        wait_for_lines(output, 3)
        process.send_signal(signal.SIGINT)
        asked_at = time.monotonic()
        assert process.stderr is not None
        said = process.stderr.read()
        process.wait(20)
    assert (process.returncode, time.monotonic() - asked_at < 5) == (130, True)
    assert b"interrupted; --resume goes on" in said and b"Traceback" not in said
    assert 3 <= len(records(output)) < 500


def test_a_reader_that_leaves_ends_a_run_quietly(engine: Engine, folder: Path) -> None:
    arguments = command(engine, *[folder / "a.jpg"] * 300)
    with started(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(20) == 141
    assert b"Traceback" not in said and b"Broken" not in said


def test_pictures_are_saved_under_names_of_their_own(
    run: Run, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    engine.answers = [Answer(200, JPEG, {"content-type": "image/jpeg"})]
    (folder / "deep" / "a.jpg").write_bytes(JPEG)
    target = tmp_path / "drawn"
    done = run(engine, "--save-pictures", target, folder / "a.jpg", folder / "deep/a.jpg")
    assert done.returncode == 0, done.stderr
    paths = [Path(record["picture"]) for record in records(done.stdout)]
    assert sorted(paths) == sorted(target.iterdir()) and len(set(paths)) == 2
    assert {path.read_bytes() for path in paths} == {JPEG}
    assert all(path.name.startswith("a-") and path.suffix == ".jpg" for path in paths)


def test_a_server_that_is_not_there_is_said_at_once(run: Run, folder: Path) -> None:
    done = run(Origin("http://127.0.0.1:9"), folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"No engine answers at http://127.0.0.1:9. (unreachable)" in done.stderr
