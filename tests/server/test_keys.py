from __future__ import annotations

import hmac
import logging
import random
from pathlib import Path

import pytest

from server import keys
from server.keys import MAX_FILE_BYTES, MAX_KEYS, Keys, KeysError, digest_of, parse_keys
from server.settings import Settings
from tests.server.conftest import until
from tests.server.keys import ADMIN, CLIENT, EXPIRED, WRONG, line, write_keys

SECRET = "engine_Secret-Secret-Secret-Secret-Secret-Secret"


def parsed(text: str) -> tuple[keys.Key, ...]:
    return parse_keys(text.encode(), Path("keys.toml"))


def test_a_key_is_found_by_its_hash_with_its_name_and_role(tmp_path: Path) -> None:
    ring = Keys(write_keys(tmp_path), 1.0)
    found = [ring.find(key.encode()) for key in (CLIENT, ADMIN)]
    assert [(key.name, key.role) for key in found if key] == [("alice", "client"), ("ops", "admin")]


@pytest.mark.parametrize("presented", [
    None, b"", b"x", WRONG.encode(), EXPIRED.encode(), CLIENT.encode() + b" ", CLIENT.upper().encode(), CLIENT[:-1].encode(),
    digest_of(CLIENT.encode()), digest_of(CLIENT.encode()).hex().encode(), b"alice", b"\xff\x00",
])  # fmt: skip
def test_anything_else_is_no_key(tmp_path: Path, presented: bytes | None) -> None:
    assert Keys(write_keys(tmp_path), 1.0).find(presented) is None


def test_a_very_long_key_is_refused_without_being_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keys(write_keys(tmp_path), 1.0)
    monkeypatch.setattr(keys, "digest_of", None)
    assert ring.find(b"k" * 30_000) is None


@pytest.mark.parametrize("presented", [CLIENT, ADMIN, EXPIRED, WRONG])
def test_every_key_is_compared_whatever_was_presented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presented: str
) -> None:
    ring = Keys(write_keys(tmp_path), 1.0)
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda one, other: (compared.append(len(one)), compare(one, other))[1]
    )
    ring.find(presented.encode())
    assert compared == [32, 32, 32]


def test_a_key_is_valid_until_its_day_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    for expires, at, is_valid in (
        ("2027-01-31", 1801353599, True), ("2027-01-31", 1801353600, False),
        ("2027-01-31T12:00:00", 1801396799, True), ("2027-01-31T12:00:00+01:00", 1801396799, False),
    ):  # fmt: skip
        path.write_text(line("alice", CLIENT, f"expires = {expires}"))
        monkeypatch.setattr("time.time", lambda at=at: float(at))
        assert (Keys(path, 1.0).find(CLIENT.encode()) is not None) == is_valid, expires


@pytest.mark.parametrize(("text", "part"), [
    ("", "holds no key"), ("# none yet\n", "holds no key"), (SECRET, "not valid TOML (at "), (f'alice = "{SECRET}"', "alice: must be a table of sha256"),
    (f'alice = {{sha256 = "{SECRET}"}}', "alice: sha256 must be 64 of 0-9a-f"), (f'{SECRET} = "alice"', "the name of key 1 must be"),
    (f'alice = {{sha256 = "{"a" * 64}", key = "{SECRET}"}}', "alice: must be a table of sha256"), ("alice = {}", "alice: sha256"),
    (f'alice = {{sha256 = "{"A" * 64}"}}', "sha256 must be"), (line("alice", SECRET, f'role = "{SECRET}"'), "role Input should be 'client' or 'admin'"),
    (line("alice", SECRET, 'expires = "2027-01-31"'), "without quotation marks"), (line("alice", SECRET, "rate_limit = -1"), "rate_limit Input should be"),
    (line("alice", SECRET) + line("bob", SECRET), "alice and bob are the same key"), (line("alice", SECRET) + line("alice", WRONG), "not valid TOML (at line 2"),
    (line('"a b"', SECRET), "the name of key 1"), (line('"' + "a" * 65 + '"', SECRET), "the name of key 1"), (line("a.b", SECRET), "a: must be a table"),
    ("a=" + "[" * 100_000, "not valid TOML"), ("a=" + "9" * 10_000, "not valid TOML"),
])  # fmt: skip
def test_a_damaged_file_is_refused_and_nothing_of_it_is_said(text: str, part: str) -> None:
    with pytest.raises(KeysError) as caught:
        parsed(text)
    assert part in str(caught.value), str(caught.value)
    assert "Secret" not in str(caught.value)


def test_a_file_of_bytes_or_too_many_keys_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    many = "".join(line(f"k{number}", str(number)) for number in range(MAX_KEYS + 1))
    for content, part in (
        (b"\xff\xfe", "not UTF-8"), (many.encode(), "more than 1000"), (b"#" * (MAX_FILE_BYTES + 1), "larger than"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(KeysError, match=part):
            Keys(path, 1.0)
    with pytest.raises(KeysError, match="cannot be read: No such file"):
        Keys(tmp_path / "nowhere", 1.0)
    with pytest.raises(KeysError, match="cannot be read: Is a directory"):
        Keys(tmp_path, 1.0)


def test_no_key_and_no_hash_stands_in_the_representation_or_the_settings(tmp_path: Path) -> None:
    path = write_keys(tmp_path)
    shown = repr(Keys(path, 1.0)) + repr(Settings(keys_file=path))
    assert "alice" in shown and digest_of(CLIENT.encode()).hex()[:8] not in shown and CLIENT not in shown


def test_the_file_is_read_again_and_keys_come_and_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_keys(tmp_path)
    ring = Keys(path, 1.0)
    path.write_text(line("alice", CLIENT) + line("alice-2", WRONG))
    with caplog.at_level("INFO", "server.keys"):
        ring.reread()
        ring.reread()
    assert ring.find(CLIENT.encode()) and ring.find(WRONG.encode()) and not ring.find(ADMIN.encode())
    (record,) = [vars(record) for record in caplog.records]
    assert (record["clients"], record["admins"], record["expired"]) == (["alice", "alice-2"], [], [])
    assert CLIENT not in str(record) and digest_of(CLIENT.encode()).hex() not in str(record)


@pytest.mark.parametrize("content", [b"", SECRET.encode(), b"\xff", None])
def test_a_file_that_is_damaged_later_changes_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    path = write_keys(tmp_path)
    good = path.read_bytes()
    ring = Keys(path, 1.0)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(3):
        ring.reread()
    assert ring.find(CLIENT.encode()) and not ring.find(WRONG.encode())
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "KEYS FILE NOT USED" in error.getMessage() and "Secret" not in error.getMessage()
    path.write_bytes(good)
    ring.reread()
    path.write_bytes(b"")
    ring.reread()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


def test_keys_that_have_all_expired_let_nobody_in_and_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(line("bob", EXPIRED, "expires = 2020-01-01"))
    assert Keys(path, 1.0).find(EXPIRED.encode()) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_thread_watches_the_file(tmp_path: Path) -> None:
    path = write_keys(tmp_path)
    ring = Keys(path, interval=0.01)
    ring.start()
    try:
        replacement = tmp_path / "new.toml"
        replacement.write_text(line("carol", WRONG))
        replacement.rename(path)
        await until(lambda: ring.find(WRONG.encode()) is not None)
        assert ring.find(CLIENT.encode()) is None
    finally:
        ring.stop()
    await until(lambda: not ring._thread.is_alive())


def test_whatever_the_file_says_it_is_keys_or_one_kind_of_error(tmp_path: Path) -> None:
    content = (
        write_keys(tmp_path).read_bytes() + b"eve = {sha256 = '', expires = 0001-01-01T00:00:00+23:59}\n"
    )
    dice = random.Random(4)
    num_refused = 0
    for _ in range(1000):
        changed = bytearray(content)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(changed))
            changed[place : place + dice.randint(0, 3)] = dice.choice(
                [b"", b"[", b"'", b"9" * 30, bytes([dice.randrange(256)])]
            )
        try:
            assert parse_keys(bytes(changed), Path("keys.toml"))
        except KeysError as error:
            num_refused += 1
            assert str(error).isprintable() and len(str(error)) < 2000
    assert num_refused > 900
