"""How late the loop wakes up."""

from __future__ import annotations

import time

from server.loop_lag import INTERVAL, LoopLag
from tests.server.conftest import until


async def test_a_loop_that_was_held_up_is_late_by_that() -> None:
    lags: list[float] = []
    lag = LoopLag(lags.append)
    lag.start()
    await until(lambda: len(lags) == 1)
    time.sleep(INTERVAL + 0.2)
    await until(lambda: len(lags) == 2)
    lag.stop()
    lag.stop()
    assert all(each >= 0 for each in lags)
    assert lags[1] > 0.15
