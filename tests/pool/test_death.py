from __future__ import annotations

import signal

import pytest

from pool.death import explain


@pytest.mark.parametrize(
    ("code", "kill_reason", "was_asked", "reason", "is_attributable"),
    [
        (0, None, True, "stopped", False),
        (-9, "stopped", True, "stopped", False),
        (0, None, False, "exit_0", True),
        (-9, "hang", False, "hang", True),
        (-9, "protocol_violation", False, "protocol_violation", True),
        (-9, "start_timeout", False, "start_timeout", False),
        (-9, "stop_timeout", True, "stop_timeout", False),
        (None, None, False, "forkserver_died", False),
        (-signal.SIGKILL, None, False, "sigkill", False),
        (-signal.SIGTERM, None, False, "sigterm", False),
        (-signal.SIGSEGV, None, False, "sigsegv", True),
        (-signal.SIGABRT, None, True, "sigabrt", True),
        (-40, None, False, "signal_40", False),
        (70, None, False, "device_fault", True),
        (71, None, False, "device_lost", False),
        (78, None, False, "load_failed", False),
        (17, None, False, "exit_17", True),
    ],
)
def test_only_what_the_input_may_have_caused_is_attributable(
    code: int | None, kill_reason: str | None, was_asked: bool, reason: str, is_attributable: bool
) -> None:
    assert explain(code, kill_reason, was_asked=was_asked) == (reason, is_attributable)
