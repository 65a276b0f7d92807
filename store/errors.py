"""What the drivers' errors mean: another writer was first, nothing was written, or the outcome is unknown.

No error code is listed as temporary or as fatal. Whether an event or the database is to blame is the result of an
experiment. (docs/design.md, "Blame")

The drivers' own errors never leave this package, not even as a cause. Their texts and details quote the documents
of a failed write, including key bytes. (docs/design.md, invariant 9)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from roomkeys.errors import DatabaseError, Refused, WriteConflict

_WRITE_CONFLICT: Final = 112
_SEVERAL: Final = 65
"""The code that the driver gives to the error of a bulk. The codes of the server are in its details."""
_NAMES: Final = {
    2: "BadValue",
    13: "Unauthorized",
    14: "TypeMismatch",
    28: "PathNotViable",
    66: "ImmutableField",
    112: "WriteConflict",
    121: "DocumentValidationFailure",
    251: "NoSuchTransaction",
    365: "TemporarilyUnavailable",
    371: "UserWritesBlocked",
    10107: "NotWritablePrimary",
    10334: "BSONObjectTooLarge",
    11000: "DuplicateKey",
    11602: "InterruptedDueToReplStateChange",
    14031: "OutOfDiskSpace",
    17419: "BSONObjectTooLarge",
}
"""Names of codes, for people: the server names the code of a command, but not that of one write of a bulk."""


@contextmanager
def translated(*, in_doubt: bool = False) -> Iterator[None]:
    """Translate the drivers' errors into `roomkeys.errors`. The text of the new error is `named`.

    `WriteConflict`, `Refused`: nothing was written. `DatabaseError`: there was no answer, or, if what runs here is
    a commit (`in_doubt`), the answer does not say that nothing was written.
    """
    try:
        yield
    except BSONError as error:
        raise Refused(type(error).__name__) from None
    except PyMongoError as error:
        if is_conflict(error):
            raise WriteConflict(named(error)) from None
        if in_doubt or isinstance(error, ConnectionFailure):
            raise DatabaseError(named(error)) from None
        raise Refused(named(error)) from None


def is_conflict(error: PyMongoError) -> bool:
    """Tell whether nothing was written and a retry at once may succeed: another writer, a new collection or index."""
    if isinstance(error, ConnectionFailure):
        return False
    refused = isinstance(error, OperationFailure) and error.has_error_label("TransientTransactionError")
    return refused or _WRITE_CONFLICT in _names(error)


def named(error: PyMongoError) -> str:
    """Return the type of an error with the codes and code names of the server: "OperationFailure 13 Unauthorized".

    These are the only safe parts. A message (`errmsg`) and the details may quote a document, and so a key.
    """
    names = (f"{code} {name}".strip() for code, name in _names(error).items())
    return " ".join([type(error).__name__, ", ".join(names)]).strip()


def _names(error: PyMongoError) -> dict[int, str]:
    """Return the server's codes with their names, which are empty where nobody gives them."""
    if not isinstance(error, OperationFailure):
        return {}
    answers: list[Mapping[str, Any]] = [{"codeName": (error.details or {}).get("codeName"), "code": error.code}]
    if isinstance(error, BulkWriteError):
        details = error.details
        answers = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    names = {answer.get("code"): answer.get("codeName") for answer in answers}
    return {code: _name(code, name) for code, name in names.items() if isinstance(code, int) and code != _SEVERAL}


def _name(code: int, name: object) -> str:
    return name if isinstance(name, str) and name.isidentifier() and name.isascii() else _NAMES.get(code, "")
