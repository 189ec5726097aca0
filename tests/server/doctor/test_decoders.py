from __future__ import annotations

import os

from server.doctor.decoders import LIMIT, check_decoders
from server.doctor.probe import Answer, Probe


def test_the_probe_says_what_a_decoder_gives_up_here() -> None:
    answer = Probe("server.doctor.decoders_probe", os.environ, LIMIT).answer()
    assert not answer.failure and not answer.facts["limits"] and not answer.facts["no_new_privs"]
    finding = check_decoders("process", answer)
    assert "limits, no_new_privs" in finding.text


def test_a_measure_that_every_kernel_has_is_missed() -> None:
    facts = {"limits": "", "no_new_privs": "", "landlock": "", "seccomp": "Operation not permitted"}
    assert check_decoders("process", Answer(facts)).status == "warning"
    assert check_decoders("process", Answer({**facts, "seccomp": "", "landlock": "none"})).status == "ok"


def test_threads_are_simply_told_and_a_probe_that_fails_is_a_warning() -> None:
    assert check_decoders("thread", Answer()).status == "ok"
    assert check_decoders("process", Answer(failure="killed by SIGSYS")).status == "warning"
