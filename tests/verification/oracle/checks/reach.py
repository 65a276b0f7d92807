"""Invariant 1, reach: every account that should hold a key is sent it."""

from collections.abc import Iterator

from tests.verification.oracle.analysis import Analysis
from tests.verification.oracle.checks.shown import shown
from tests.verification.oracle.recording import NEVER
from tests.verification.oracle.settlements import Settlement


def every_rotation_reaches_the_members(analysis: Analysis) -> Iterator[str]:
    """Every key that became current was sent to the members that the event that made it left."""
    settled = {
        (room_id, one.version): one
        for room_id, _, one in analysis.settlements()
        if not analysis.has_gap(one.staged_ms, one.at_ms)
    }
    for room_id, entries in analysis.timeline.by_room().items():
        before = analysis.recording.rooms_before.get(room_id)
        members = set(before.members) if before else set[str]()
        for entry in entries:
            members |= entry.outcome.added
            members -= entry.outcome.removed
            one = settled.get((room_id, -1 if entry.version is None else entry.version))
            if entry.rotated and one is not None:
                missing = members - analysis.first_sent.get((room_id, one.version), {}).keys()
                staying = [account for account in missing if _must_have(analysis, room_id, account, one)]
                if staying:
                    text = f"{room_id}: version {one.version} of event {entry.sequence} was never sent to"
                    yield f"{text} {shown(staying)}"


def _must_have(analysis: Analysis, room_id: str, account: str, settlement: Settlement) -> bool:
    """Return True if no event that was applied before the key became current ended the membership."""
    made_by = analysis.timeline.made_by[room_id]
    since = made_by[settlement.version]
    applied = since if settlement.high is None else made_by.get(settlement.high, since)
    stayed = analysis.timeline.was_member_throughout(room_id, account, since, applied)
    return stayed and analysis.must_get_keys(account)


def last_version_reaches_the_members(analysis: Analysis) -> Iterator[str]:
    """In the end every member has been sent the current key of its room."""
    recording = analysis.recording
    settled = {(room_id, one.version): one for room_id, _, one in analysis.settlements()}
    for room_id, room in recording.rooms.items():
        if room.kind != "channel":
            continue
        one = settled.get((room_id, -1 if room.version is None else room.version))
        if room.version is None and analysis.timeline.has_key(room_id):
            yield f"{room_id} has no key in the end"
        elif one is not None and room.version is not None and not analysis.has_gap(one.staged_ms):
            sent = analysis.first_sent.get((room_id, room.version), {})
            members = recording.members.get(room_id, {})
            missing = [who for who in members if who not in sent and analysis.must_get_keys(who)]
            if missing:
                yield f"{room_id}: the last version {room.version} was never sent to {shown(missing)}"


def joiners_are_sent_the_current_key(analysis: Analysis) -> Iterator[str]:
    """Each account that joins is sent the key that is current then, before the next key becomes current."""
    for room_id, room, settled in analysis.settlements():
        if analysis.has_gap(settled.staged_ms, settled.at_ms):
            continue
        for account, version in room.new_members.items():
            joined_ms = (room.members[account] >> 32) * 1000  # a cluster time begins with its second
            if analysis.must_get_keys(account) and not analysis.has_gap(joined_ms, settled.at_ms):
                first = analysis.first_sent.get((room_id, version), {}).get(account, NEVER)
                if first >= settled.arrived:
                    text = f"{room_id}: {account} joined at version {version} and was not sent it before version"
                    yield f"{text} {settled.version} became current"
