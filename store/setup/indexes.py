"""Collections and indexes, created at start-up unless they exist. (docs/contract.md, section 5)

An existing index that serves as well is accepted under any name. An index that is not unique serves the reads: the
worker warns, because correctness does not depend on uniqueness.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import DuplicateKeyError, OperationFailure

from roomkeys.errors import DatabaseError
from store.database import Database, Document
from store.documents import USED_IDS
from store.errors import translated
from store.leases.lease import CURSORS
from store.setup.permissions import naming
from store.writes.outbox import OUTBOX

IndexOptions = Mapping[str, Any]
"""An existing index as MongoDB describes it."""

_SEARCH_MS: Final = 2_000
"""How long MongoDB may search for a duplicate (milliseconds)."""

_SHOWN_CHARACTERS: Final = 80
"""How much of a duplicate value is shown."""


@dataclass(frozen=True, slots=True)
class Index:
    """An ascending index over `fields`. With `required`, the worker is not ready without it."""

    collection: str
    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False
    required: bool = True

    @property
    def name(self) -> str:
        """Return the name that MongoDB gives the index by default."""
        return "_".join(f"{field}_1" for field in self.fields)

    def is_served_by(self, options: IndexOptions) -> bool:
        """Tell whether queries that need this index can use the existing one.

        A longer index serves as well, and so does a sparse one: no query asks for documents without the field.
        """
        keys = list(options["key"])[: len(self.fields)]
        names, directions = tuple(name for name, _ in keys), {direction for _, direction in keys}
        is_whole = not ({"partialFilterExpression", "collation"} & options.keys() or options.get("hidden"))
        return is_whole and names == self.fields and directions in ({1}, {-1})

    def is_guarded_by(self, options: IndexOptions) -> bool:
        """Tell whether the existing index refuses every document that this unique index would refuse."""
        names = {name for name, _ in options["key"]}
        return bool(options.get("unique")) and "partialFilterExpression" not in options and names <= {*self.fields}


@dataclass(frozen=True, slots=True)
class Unguarded:
    """Nothing refuses duplicates, and perhaps there are some: `text` says so, and what to do."""

    text: str
    has_duplicates: bool


# Some indexes serve only this worker. Without those on `sectId` and `deptId`, finding the users of an org reads
# every user; with the account in them, the users come in order of accounts. Without the one that begins with
# `u.account`, finding the rooms of an account reads every membership; without the one with `member.account`,
# finding the reasons of an account reads all reasons of its room. The one on `rooms`
# finds those in which a key has expired.
INDEXES: Final = (
    Index("subscriptions", ("roomId", "u.account"), unique=True),
    Index("subscriptions", ("u.account", "roomId")),
    Index("room_members", ("rid", "member.type", "member.id"), unique=True),
    Index("room_members", ("rid", "member.account"), required=False),
    Index("users", ("account",)),
    Index("users", ("sectId", "account")),
    Index("users", ("deptId", "account")),
    Index("rooms", ("keyRotation.expires",), sparse=True, required=False),
)

# Transactions write to these. Creating a collection while transactions run makes them fail with a conflict.
_COLLECTIONS: Final = ("rooms", OUTBOX, CURSORS, USED_IDS)
_NAMESPACE_EXISTS: Final = 48


async def ensure_indexes(database: Database) -> list[str]:
    """Create the collections and indexes that are missing; return a warning for each index that is not as it should be.

    Raise `DatabaseError`, with what to do, if an index is missing that the worker needs and cannot create.
    """
    with translated():
        await _create_collections(database)
        warnings = await collations(database)
    warnings += filter(None, [await _ensure(database, index) for index in INDEXES])
    return warnings


async def collations(database: Database) -> list[str]:
    """Note the collections whose default collation is not the simple one, and return a warning for each.

    Errors are the driver's.
    """
    names = {"name": {"$in": ["rooms", *sorted({index.collection for index in INDEXES})]}}
    with naming("listCollections", database, ""):
        found = await database.db.command("listCollections", filter=names)
    collated = {item["name"]: item["options"].get("collation") for item in found["cursor"]["firstBatch"]}
    database.collated.clear()
    database.collated.update(name for name, collation in collated.items() if collation is not None)
    advice = "so queries by _id read the whole collection: copy it into a collection without a collation"
    return [f"{name} has the collation {collated[name].get('locale')}, {advice}" for name in sorted(database.collated)]


async def existing_indexes(database: Database, collection: str) -> dict[str, IndexOptions]:
    """Return the indexes of a collection by name. The errors are those of the driver."""
    with naming("listIndexes", database, collection):
        found: dict[str, IndexOptions] = await database[collection].index_information()
    return found


async def _create_collections(database: Database) -> None:
    with naming("listCollections", database, ""):
        existing = await database.db.list_collection_names()
    if USED_IDS not in existing and "rooms" in existing:
        await _note_used_ids(database)
    for collection in set(_COLLECTIONS) - set(existing):
        try:
            with naming("createCollection", database, collection):
                await database.db.create_collection(collection, check_exists=False)
        except OperationFailure as error:
            if error.code != _NAMESPACE_EXISTS:  # it exists if another replica was faster
                raise


async def _note_used_ids(database: Database) -> None:
    """Note the ids of all channels: the program that created them noted none."""
    merge = {"into": USED_IDS, "whenMatched": "keepExisting"}
    pipeline: list[Document] = [{"$match": {"type": "channel"}}, {"$project": {"_id": 1}}, {"$merge": merge}]
    await database.aggregate("rooms", pipeline)


async def _ensure(database: Database, index: Index) -> str | None:
    """Create the index if nothing serves in its place; return the warning, if there is one."""
    try:
        with translated():
            present = await existing_indexes(database, index.collection)
            if not any(map(index.is_served_by, present.values())):
                return await _create(database, index, present)
            unguarded = await without_guard(database, index, present)
            return None if unguarded is None else unguarded.text
    except DatabaseError as error:
        if index.required:
            raise
        return str(error)


async def _create(database: Database, index: Index, present: Mapping[str, IndexOptions]) -> str | None:
    # The default name may belong to an index that does not serve, for example a partial one.
    name = index.name if index.name not in present else f"{index.name}_room_worker"
    options: Document = {"name": name, "collation": {"locale": "simple"}}
    options |= {"sparse": True} if index.sparse else {}
    keys = [(field, 1) for field in index.fields]
    collection = database[index.collection]
    try:
        with naming("createIndex", database, index.collection):
            await collection.create_index(keys, **options, **({"unique": True} if index.unique else {}))
    except DuplicateKeyError:
        await collection.create_index(keys, **options)  # so that the reads are fast
        unguarded = await without_guard(database, index, {name: {"key": keys}})
        return None if unguarded is None else unguarded.text
    except OperationFailure as error:
        code_name = (error.details or {}).get("codeName", "")
        why = f"the index {name} on {index.collection} is missing and cannot be created ({error.code} {code_name})"
        raise DatabaseError(f"{why}: run {statement(index, name)} in mongosh") from None
    return None


async def without_guard(database: Database, index: Index, present: Mapping[str, IndexOptions]) -> Unguarded | None:
    """Return what is wrong if the index should be unique and none of the present ones refuses duplicates."""
    if not index.unique or any(map(index.is_guarded_by, present.values())):
        return None
    duplicate = await _duplicate(database, index)
    fields = ", ".join(index.fields)
    create = statement(index, f"{index.name}_unique" if index.name in present else index.name)
    if duplicate is None:
        text = f"{index.collection} has no unique index on ({fields}): run {create} in mongosh"
        return Unguarded(text, has_duplicates=False)
    problem = f"{index.collection} has several documents with {duplicate}, and so no unique index on ({fields})"
    advice = f"delete all but one of them, and of any others alike, then run {create} in mongosh"
    return Unguarded(f"{problem}: {advice}", has_duplicates=True)


async def _duplicate(database: Database, index: Index) -> str | None:
    """Return what two documents have in common that a unique index would refuse; None if none is found in time."""
    key = {f"k{number}": f"${field}" for number, field in enumerate(index.fields)}
    pipeline: list[Document] = [
        {"$group": {"_id": key, "n": {"$sum": 1}}},
        {"$match": {"n": {"$gt": 1}}},
        {"$limit": 1},
    ]
    try:
        found = await database.aggregate(index.collection, pipeline, max_ms=_SEARCH_MS)
    except DatabaseError:
        return None
    if not found:
        return None
    values = (found[0]["_id"].get(f"k{number}") for number in range(len(index.fields)))
    pairs = zip(index.fields, values, strict=True)
    return ", ".join(f"{field} {str(value)[:_SHOWN_CHARACTERS]!r}" for field, value in pairs)


def statement(index: Index, name: str | None = None) -> str:
    """Return what creates the index in mongosh."""
    keys = ", ".join(f'"{field}": 1' for field in index.fields)
    options = [f"{option}: true" for option in ("unique", "sparse") if getattr(index, option)]
    options += [f'name: "{name or index.name}"', 'collation: {locale: "simple"}']
    return f"db.{index.collection}.createIndex({{{keys}}}, {{{', '.join(options)}}})"
