"""Invariants 4 and 5: one key per version, versions that rise, and one payload per fan-out."""

from collections import defaultdict
from collections.abc import Iterator

from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.recording import ChangeKind


def one_key_per_version(analysis: Analysis) -> Iterator[str]:
    """No two keys have the same version, in a payload or in the database."""
    keys: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for room_id, version, digest in _all_keys(analysis):
        keys[room_id, version].add(digest)
    for (room_id, version), digests in keys.items():
        if len(digests) > 1:
            yield f"{room_id}: version {version} has {len(digests)} different keys"


def one_version_per_key(analysis: Analysis) -> Iterator[str]:
    """No key has two versions or belongs to two rooms."""
    uses: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    for room_id, version, digest in _all_keys(analysis):
        uses[digest].add((room_id, version))
    for of_key in uses.values():
        if len(of_key) > 1:
            yield f"one key is used as {sorted(of_key)}"


def _all_keys(analysis: Analysis) -> Iterator[tuple[str, int, str]]:
    for payload in analysis.recording.key_messages.payloads:
        yield payload.room, payload.version, payload.digest
    yield from analysis.recording.stored_keys


def versions_rise(analysis: Analysis) -> Iterator[str]:
    """In the order of the oplog current and staged versions rise, and the highest version never falls."""
    for kind, least in ((ChangeKind.CURRENT, 1), (ChangeKind.STAGED, 1), (ChangeKind.HIGH, 0)):
        last: dict[str, int] = {}
        for change in analysis.recording.changes:
            if change.kind is not kind or change.version is None:
                continue
            before = last.get(change.room)
            if before is not None and change.version < before + least:
                yield f"{change.room}: the {kind} went from {before} to {change.version}"
            last[change.room] = change.version


def payloads_are_well_formed(analysis: Analysis) -> Iterator[str]:
    """Payloads are spelled as the contract demands; those of one version differ only in their timestamp."""
    seen: set[tuple[str, int, str, int]] = set()
    for payload in analysis.recording.key_messages.payloads:
        name = f"{payload.room}: a payload of version {payload.version}"
        if not payload.well_formed:
            yield f"{name} is not spelled as the contract demands"
        same = (payload.room, payload.version, payload.digest, payload.timestamp)
        if same in seen:
            yield f"{name} is spelled in two ways"
        seen.add(same)


def one_payload_reaches_all(analysis: Analysis) -> Iterator[str]:
    """One payload has reached every account that stayed a member while its key was staged."""
    for room_id, room, settled in analysis.settlements():
        if analysis.has_gap(settled.staged_ms, settled.at_ms):
            continue
        stayed = {account for account, joined in room.members.items() if joined <= settled.staged_time}
        stayed = set(filter(analysis.must_get_keys, stayed))
        passes = analysis.passes.get((room_id, settled.version), [])
        if passes and not any(stayed <= reached for reached in passes):
            text = f"{room_id}: none of the {len(passes)} payloads of version {settled.version} went to all members"
            yield f"{text} that stayed"
