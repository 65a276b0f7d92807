"""A mutation: a worker broken on purpose, the run in which it matters, and the invariant that it then breaks.

`breaks` says what is replaced: the place as `module:name` or `module:Class.name`, and what makes the replacement
from the original. A place that is no longer there, or that the run never comes to, is an error: the mutation has
to be moved to where the code went.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import pytest

from tests.harness.proxy import proxied
from tests.harness.site import Rig
from tests.verification.mutations.site_under_test import PEOPLE, Scenario, Town
from tests.verification.oracle.recorder import recorder
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.violation import Find
from worker.telemetry import logs

Break = Callable[[Any], Any]

UNTIL_GIVEN_UP = 8.0
"""Seconds until a broken worker's run counts as over, though something never came."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is broken, in which scenario it matters, and which check of the oracle must find it."""

    name: str
    breaks: Mapping[str, Break]
    scenario: Scenario
    found_by: Find


def break_worker(monkeypatch: pytest.MonkeyPatch, breaks: Mapping[str, Break]) -> set[str]:
    """Replace functions; return the places that have not been come to, which empties as they are."""
    waiting = set(breaks)
    for place, make in breaks.items():
        module, _, path = place.partition(":")
        owner_path, _, name = path.rpartition(".")
        owner = resolve_name(f"{module}:{owner_path}" if owner_path else module)
        monkeypatch.setattr(owner, name, _noted(make(getattr(owner, name)), place, waiting))
    return waiting


def _noted(replacement: Callable[..., Any], place: str, waiting: set[str]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        waiting.discard(place)
        return replacement(*args, **kwargs)

    return noted


def slips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the errors, as the worker meets them, by which what is broken shows that it does not fit."""
    met: list[str] = []

    def where(error: BaseException) -> str:
        if isinstance(error, TypeError | AttributeError | NameError):
            met.append(repr(error))
        return logs.where(error)

    for module in ("worker.pipeline.loop", "worker.replica.partition"):
        monkeypatch.setattr(f"{module}.where", where)
    return met


async def play(
    made: Rig, monkeypatch: pytest.MonkeyPatch, scenario: Scenario, breaks: Mapping[str, Break]
) -> Recording:
    """Play a scenario with a worker that is broken in these places, or in none, and return its recording."""
    await made.users(*PEOPLE)
    (url,) = made.settings.nats_url
    async with recorder([url], made.db, made.site) as record, proxied(url) as proxy:
        waiting, slipped = break_worker(monkeypatch, breaks), slips(monkeypatch)
        async with scenario(Town(made, monkeypatch, proxy)):
            if not breaks:
                return await record.finish()
            with suppress(AssertionError):
                await record.until_idle(UNTIL_GIVEN_UP)
            recording = await record.read()
    assert waiting == set(), "the run never came to what was broken"
    assert slipped == [], "what was broken does not fit any more"
    return recording
