"""What the database lets this user do. An action that it denies is named in the error, with its collection."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymongo.errors import OperationFailure

from roomkeys.errors import DatabaseError
from store.database import Database, Document
from store.documents import USED_IDS
from store.errors import translated
from store.leases.heartbeats import REPLICAS
from store.leases.lease import CURSORS, SITES
from store.writes.outbox import OUTBOX

Actions = Mapping[str, Sequence[str]]
"""Actions of MongoDB by collection."""

READS: Final[Actions] = {"rooms": ("find",), "subscriptions": ("find",)}
"""What the key service does."""

READS_AND_WRITES: Final[Actions] = {
    "rooms": ("find", "insert", "update"),
    "users": ("find",),
    "apps": ("find",),
    "subscriptions": ("find", "insert", "update", "remove"),
    "room_members": ("find", "insert", "update", "remove"),
    SITES: ("find", "insert", "update"),
    CURSORS: ("find", "insert", "update"),
    REPLICAS: ("find", "insert", "update", "remove"),
    OUTBOX: ("find", "insert", "update", "remove"),
    USED_IDS: ("find", "insert", "update"),
}
"""What the event worker does, besides what creates missing collections and indexes."""

_UNAUTHORIZED: Final = 13


@contextmanager
def naming(action: str, database: Database, collection: str) -> Iterator[None]:
    """Raise `DatabaseError` with the action and the collection if the database denies the action."""
    try:
        yield
    except OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        raise DatabaseError(denial(database.db.name, {collection: [action]})) from None


async def require_permissions(database: Database, wanted: Actions) -> None:
    """Raise `DatabaseError` that names every action which this user is not granted; do nothing without a login."""
    with translated():
        status = await database.client.admin.command("connectionStatus", showPrivileges=True)
    missing = missing_actions(status["authInfo"], database.db.name, wanted)
    if missing:
        raise DatabaseError(denial(database.db.name, missing))


def missing_actions(auth_info: Document, name: str, wanted: Actions) -> Actions:
    """Return the actions on collections of the database `name` that `connectionStatus` does not list as granted."""
    if not auth_info["authenticatedUsers"]:
        return {}
    privileges = auth_info["authenticatedUserPrivileges"]
    found: dict[str, list[str]] = {}
    for collection, actions in wanted.items():
        granted = {
            action
            for privilege in privileges
            if _is_about(privilege["resource"], name, collection)
            for action in privilege["actions"]
        }
        if "anyAction" not in granted and not granted.issuperset(actions):
            found[collection] = [action for action in actions if action not in granted]
    return found


def denial(name: str, missing: Actions) -> str:
    """Return the sentence that says what the user may not do, and what to do about it."""
    actions = "; ".join(
        f"{', '.join(some)} on {f'{name}.{collection}'.rstrip('.')}" for collection, some in missing.items()
    )
    return f"MongoDB denies this user {actions}: grant these actions, or the role readWrite on the database {name}"


def _is_about(resource: Mapping[str, Any], name: str, collection: str) -> bool:
    """Tell whether a privilege covers the collection; an empty name stands for every name."""
    if resource.get("anyResource"):
        return True
    return resource.get("db") in {"", name} and resource.get("collection") in {"", collection}
