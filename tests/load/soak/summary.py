"""A recording as text, for people who look for the cause of a violation. It has no key bytes."""

from collections.abc import Iterator

from tests.load.soak.rounds import Outcome, Round
from tests.verification.oracle.recording import Recording


def summary(plan: Round, outcome: Outcome, recording: Recording | None) -> str:
    """Return a round, its violations, and everything that was recorded, in order of time."""
    lines = [str(plan), str(dict(outcome.faults)), "", *outcome.violations, ""]
    if recording is not None:
        lines += [str(gap) for gap in recording.gaps]
        lines += [f"{at_ms} {text}" for at_ms, text in sorted(_recorded(recording))]
    return "\n".join(lines) + "\n"


def _recorded(recording: Recording) -> Iterator[tuple[int, str]]:
    for event in recording.events:
        body = event.body.decode(errors="replace")
        yield event.at_ms, f"event {event.sequence} {event.subject} {event.request_id} {body}"
    for change in recording.changes:
        yield (
            change.at_ms,
            f"change {change.cluster_time} {change.room} {change.kind} {change.account} {change.version}",
        )
    for message in recording.messages:
        body = message.body.decode(errors="replace")
        yield recording.times[message.arrival], f"{message.kind} to {message.to} {message.request_id} {body}"
    for account, index, arrival in recording.key_messages:
        payload = recording.key_messages.payloads[index]
        text = f"key of {payload.room} version {payload.version} payload {index} to {account}"
        yield recording.times[arrival], f"{text} at listener {recording.listeners[arrival]}"
