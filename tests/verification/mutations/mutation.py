"""A mutation: a worker that is broken on purpose, and the scenario in which that matters.

`breaks` says what is replaced: the place as `module:name` or `module:Class.name`, and a function that makes the
replacement from the original. A place that no longer exists, or that the scenario never reaches, is an error:
move the mutation to where the code went.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import pytest

from tests.harness.proxy import proxied
from tests.harness.site import Rig
from tests.verification.mutations.run_end import record_run
from tests.verification.mutations.site_under_test import PEOPLE, Scenario, SiteUnderTest
from tests.verification.oracle.recorder import recorder
from tests.verification.oracle.recording import Recording
from tests.verification.oracle.violation import Find
from worker.telemetry import logs

Break = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is broken, in which scenario it matters, and which check of the oracle must find it."""

    name: str
    breaks: Mapping[str, Break]
    scenario: Scenario
    found_by: Find


def break_worker(monkeypatch: pytest.MonkeyPatch, breaks: Mapping[str, Break]) -> set[str]:
    """Replace functions; return the set of places that have not been called yet."""
    waiting = set(breaks)
    for place, make in breaks.items():
        module, _, path = place.partition(":")
        owner_path, _, name = path.rpartition(".")
        owner = resolve_name(f"{module}:{owner_path}" if owner_path else module)
        monkeypatch.setattr(owner, name, _watched(make(getattr(owner, name)), place, waiting))
    return waiting


def _watched(replacement: Callable[..., Any], place: str, waiting: set[str]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        waiting.discard(place)
        return replacement(*args, **kwargs)

    return watched


def misfits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of errors which show that a replacement no longer fits; it fills during the run."""
    errors: list[str] = []

    def where(error: BaseException) -> str:
        if isinstance(error, TypeError | AttributeError | NameError):
            errors.append(repr(error))
        return logs.where(error)

    for module in ("worker.pipeline.failures.blame", "worker.replica.partition"):
        monkeypatch.setattr(f"{module}.where", where)
    return errors


async def play(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Scenario,
    breaks: Mapping[str, Break],
    found_by: Find | None = None,
) -> Recording:
    """Play a scenario with a worker that is broken in these places, or nowhere, and return the recording.

    The run of a broken worker may end as soon as `found_by` finds something.
    """
    await rig.users(*PEOPLE)
    (url,) = rig.settings.nats_url
    async with recorder([url], rig.db, rig.site) as record, proxied(url) as proxy:
        waiting, unfit = break_worker(monkeypatch, breaks), misfits(monkeypatch)
        running = scenario(SiteUnderTest(rig, monkeypatch, proxy))
        if not breaks:
            async with running:
                return await record.finish()
        recording = await record_run(running, rig, record, found_by)
    assert waiting == set(), "the scenario never called what was replaced"
    assert unfit == [], "a replacement no longer fits"
    return recording
