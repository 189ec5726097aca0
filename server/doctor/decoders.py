"""What decoders can give up on this machine, found out by giving it up."""

from __future__ import annotations

from server.decoder_sandbox import describe
from server.doctor.finding import Finding, ok, warning
from server.doctor.probe import Answer

LIMIT = 20.0
"""Seconds for the probe."""
_ESSENTIAL = ("limits", "no_new_privs", "seccomp")
"""Every Linux of the last ten years has these."""


def check_decoders(mode: str, answer: Answer) -> Finding:
    """`mode` is the setting `decode`; `answer` of decoders_probe.py."""
    if mode == "thread":
        return ok("decoders", "images are decoded in threads of the server (decode = thread)")
    if answer.failure:
        text = f"images are decoded in processes, and whether these can be closed off is unknown: {answer.failure}"
        return warning("decoders", text, "`python -m server.doctor.decoders_probe` shows why")
    outcomes = {str(name): str(reason) for name, reason in answer.facts.items()}
    text = f"images are decoded in processes that give up: {describe(outcomes)}"
    if any(outcomes.get(name) for name in _ESSENTIAL):
        return warning("decoders", text, "allow prctl and seccomp in the container's seccomp profile")
    return ok("decoders", text)
