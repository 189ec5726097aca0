"""How a worker ended, in a word, and whether what it was running may have been the cause. Front process, pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from pool.protocol import ExitCode
from pool.replica import RunningBatch

_FAULT_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
_OUR_KILLS_FOR_CAUSE = ("hang", "protocol_violation")


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended. `is_attributable`: what it was running may have caused it."""

    reason: str
    is_attributable: bool
    batches: list[RunningBatch]
    has_progressed: bool = True
    """It had done at least one batch, or was stopped by wish."""

    @property
    def is_forkservers(self) -> bool:
        """The forkserver is the cause: several die at once, as it takes all its workers along."""
        return self.reason == "forkserver_died" or self.reason.startswith("not_launched")


def explain(
    code: int | None, kill_reason: str | None, *, was_asked: bool, was_short: bool = False
) -> tuple[str, bool]:
    """The reason of a death and whether it is attributable.

    `code` is the exit code (negative: a signal, None: the forkserver took it along), `kill_reason` why we killed it
    if we did, `was_asked` whether it was told to stop, `was_short` whether the kernel has killed for memory meanwhile.
    """
    if kill_reason == "stopped" or (was_asked and code == ExitCode.ASKED_TO):
        return "stopped", False
    if kill_reason is not None:
        return kill_reason, kill_reason in _OUR_KILLS_FOR_CAUSE
    if code is None:
        return "forkserver_died", False
    if code == -signal.SIGKILL and was_short:
        return "oom_kill", True
    if code < 0:
        return _signal_name(-code), -code in _FAULT_SIGNALS
    if code in list(ExitCode) and code != ExitCode.ASKED_TO:  # nobody had asked it
        return ExitCode(code).name.lower(), code == ExitCode.DEVICE_FAULT
    return f"exit_{code}", True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.lower()
    except ValueError:  # real-time signals have no names
        return f"signal_{number}"
