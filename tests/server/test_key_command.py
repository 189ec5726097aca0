from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.cli import main
from server.keys import digest_of, parse_keys


def test_the_key_is_shown_once_and_its_line_is_one_of_a_keys_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "alice"]) == 0
    assert main(["key", "ops", "--admin", "--expires", "2999-12-31"]) == 0
    shown = capsys.readouterr()
    texts = re.findall(r"engine_[A-Za-z0-9_-]{43}\b", shown.err)
    assert len(set(texts)) == 2 and "engine_" not in shown.out
    alice, ops = parse_keys(shown.out.encode(), Path("keys.toml"))
    assert [alice.digest, ops.digest] == [digest_of(text.encode()) for text in texts]
    assert (alice.name, alice.role, ops.name, ops.role) == ("alice", "client", "ops", "admin")
    assert ops.expires_at == datetime(2999, 12, 31, tzinfo=UTC).timestamp() and alice.expires_at == float(
        "inf"
    )


@pytest.mark.parametrize("name", ["", "a b", "a.b", "-a", "ä", "a" * 65, "a\n", 'a"', "engine_abc"])
def test_a_name_that_could_not_stand_in_the_file_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.startswith("-"):
        with pytest.raises(SystemExit):
            main(["key", name])
        return
    assert main(["key", name]) == 2
    assert capsys.readouterr().out == ""


def test_a_date_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["key", "alice", "--expires", "soon"])
    assert caught.value.code == 2 and "2027-01-31" in capsys.readouterr().err
