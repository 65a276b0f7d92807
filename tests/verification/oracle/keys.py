"""Keys: one per version, versions that rise, payloads spelled as they should be. (design.md, 4 and 5)"""

from collections import defaultdict
from collections.abc import Iterator

from tests.verification.oracle.recording import What
from tests.verification.oracle.verdict import Case, Invariant, Violation


def one_key(case: Case) -> Iterator[Violation]:
    """No two keys carry one version, in a payload or in the database."""
    keys: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for payload in case.recording.keys.payloads:
        keys[payload.room, payload.version].add(payload.digest)
    for room_id, version, digest in case.recording.stored:
        keys[room_id, version].add(digest)
    for (room_id, version), digests in keys.items():
        if len(digests) > 1:
            yield Violation(Invariant.ONE_KEY, f"{room_id}: version {version} has {len(digests)} different keys")


def one_version(case: Case) -> Iterator[Violation]:
    """No key carries two versions or belongs to two rooms."""
    uses: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    for payload in case.recording.keys.payloads:
        uses[payload.digest].add((payload.room, payload.version))
    for room_id, version, digest in case.recording.stored:
        uses[digest].add((room_id, version))
    for of_key in uses.values():
        if len(of_key) > 1:
            yield Violation(Invariant.ONE_KEY, f"one key is {sorted(of_key)} at once")


def rise(case: Case) -> Iterator[Violation]:
    """In the order of the oplog no version comes back, and the highest never falls."""
    for what, least in ((What.IN_USE, 1), (What.STAGED, 1), (What.HIGH, 0)):
        last: dict[str, int] = {}
        for change in case.recording.changes:
            if change.what is not what or change.version is None:
                continue
            before = last.get(change.room)
            if before is not None and change.version < before + least:
                text = f"{change.room}: version {what} went from {before} to {change.version}"
                yield Violation(Invariant.RISE, text)
            last[change.room] = change.version


def spelling(case: Case) -> Iterator[Violation]:
    """Payloads are spelled as the contract says; those of one version differ in nothing but their timestamp."""
    seen: set[tuple[str, int, str, int]] = set()
    for payload in case.recording.keys.payloads:
        name = f"{payload.room}: a payload of version {payload.version}"
        if not payload.shape:
            yield Violation(Invariant.SAME_BYTES, f"{name} is not spelled as it should be")
        same = (payload.room, payload.version, payload.digest, payload.timestamp)
        if same in seen:
            yield Violation(Invariant.SAME_BYTES, f"{name} is spelled in two ways")
        seen.add(same)
