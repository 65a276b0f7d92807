"""The recorder's patience ends, whatever becomes of a cancellation on its way."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.verification.oracle.recorder import Recorder
from tests.verification.oracle.recording import Recording


async def test_patience_ends_although_the_driver_swallows_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def unsettled(_: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return 1

    monkeypatch.setattr(Recorder, "_unsettled", unsettled)
    made = Recorder(Recording("site", {}), None, None)  # type: ignore[arg-type]  # nothing here is read from a database
    with pytest.raises(AssertionError, match="not quiet"):
        await asyncio.wait_for(made.until_quiet(0.01), 5)
