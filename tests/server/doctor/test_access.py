from __future__ import annotations

from pathlib import Path

import pytest

from server.doctor.access import check_access
from tests.server.doctor.machine import settings_of
from tests.server.keys import CLIENT, line, write_keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_no_keys_where_others_reach_it_is_a_warning(host: str) -> None:
    (found,) = check_access(settings_of(host=host))
    assert found.status == "warning" and "inference-engine key" in found.remedy


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost"])
def test_no_keys_on_loopback_is_ok(host: str) -> None:
    assert [each.status for each in check_access(settings_of(host=host))] == ["ok"]


def test_the_names_of_keys_are_told_and_those_that_end(tmp_path: Path) -> None:
    path = write_keys(tmp_path)
    path.chmod(0o644)
    names, expired = check_access(settings_of(host="0.0.0.0", keys_file=path))
    assert names.status == "ok" and names.text.endswith("keys.toml: alice, ops (admin), bob")
    assert expired.status == "warning" and "bob has expired" in expired.text


def test_a_file_that_everybody_writes_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(line("alice", CLIENT))
    path.chmod(0o666)
    assert [each.status for each in check_access(settings_of(keys_file=path))] == ["ok", "warning"]


def test_a_damaged_file_is_a_problem_that_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(f'alice = "{CLIENT}"\n')
    (found,) = check_access(settings_of(keys_file=path))
    assert found.status == "problem" and "alice" in found.text and CLIENT not in found.text
